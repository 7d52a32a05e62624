"""Codes of languages: which of them the language model knows, and under which label.

The labels are those of fastText's lid.176 (Joulin et al., arXiv 1607.01759): ISO 639-1 where it has a code, else ISO 639-3, and a few of
Wikipedia's own. Data sets also write ISO 639-2 and 639-3 codes of three letters, which the model calls by two.
"""

from __future__ import annotations

from collections.abc import Mapping

from reward_service.scoring.language import base_language

LABELS = frozenset(
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de diq dsb dty dv el "
    "eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko "
    "krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or "
    "os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk "
    "ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh".split()
)

# Label: what else it is called, in ISO 639-2 (both kinds), ISO 639-3 (its commonest member where it stands for several), and formerly.
_OTHER_NAMES = (
    "af afr|am amh|an arg|ar ara arb|as asm|av ava|az aze azj|ba bak|be bel|bg bul|bh bih bho|bn ben|bo bod tib|br bre|bs bos|ca cat|"
    "ce che|co cos|cs ces cze|cv chv|cy cym wel|da dan|de deu ger|dv div|el ell gre|en eng|eo epo|es spa|et est ekk|eu eus baq|"
    "fa fas per pes|fi fin|fr fra fre|fy fry|ga gle|gd gla|gl glg|gn grn gug|gu guj|gv glv|he heb iw|hi hin|hr hrv|ht hat|hu hun|"
    "hy hye arm|ia ina|id ind in|ie ile|io ido|is isl ice|it ita|ja jpn|jv jav jw|ka kat geo|kk kaz|km khm|kn kan|ko kor|ku kur kmr|"
    "kv kom kpv|kw cor|ky kir|la lat|lb ltz|li lim|lo lao|lt lit|lv lav lvs|mg mlg plt|mk mkd mac|ml mal|mn mon khk|mr mar|"
    "ms msa may zsm|mt mlt|my mya bur|ne nep npi|nl nld dut|nn nno|no nor nob nb|oc oci|or ori ory|os oss|pa pan|pl pol|ps pus pbt|"
    "pt por|qu que quz|rm roh|ro ron rum mo|ru rus|sa san|sc srd|sd snd|sh hbs|si sin|sk slk slo|sl slv|so som|sq sqi alb|sr srp|su sun|"
    "sv swe|sw swa swh|ta tam|te tel|tg tgk|th tha|tk tuk|tl tgl fil|tr tur|tt tat|ug uig|uk ukr|ur urd|uz uzb uzn|vi vie|vo vol|wa wln|"
    "yi yid ydd ji|yo yor"
)
LABEL_OF: Mapping[str, str] = {name: names.split()[0] for names in _OTHER_NAMES.split("|") for name in names.split()[1:]}


def model_label(code: str) -> str | None:
    """The model's label for the language of a code, or None for a language that it does not know.

    Example: "fra" -> "fr", "pt-BR" -> "pt", "cmn" -> "zh", "xx" -> None.
    """
    base = base_language(code)
    return base if base in LABELS else LABEL_OF.get(base)
