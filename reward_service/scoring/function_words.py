"""Function words of the languages that share a script with others: the words that every text of a language is full of.

Articles, pronouns, prepositions, conjunctions, auxiliaries, the connectives of reasoning, and the words that announce an answer. A word
may stand under several languages (the French "on", the Dutch "is"): what tells two languages apart is what only one of them has. Danish
and Norwegian are one list, and so are Serbian, Croatian and Bosnian, in both scripts: at the length of a sentence nobody tells them
apart by machine. Languages that are alone in their script need no list.
"""

from __future__ import annotations

from collections.abc import Mapping

# Function words that are also words of programs, formulas and commands: they tell nothing of a text that may be one.
KEYWORDS = frozenset(
    """if for in is not and or while from as with do then all any to no on by at where into over only let next first final total result
    answer solution end else must can may our so one two also down up min max con sin cos tan des den der die val var le ge ne""".split()
)

# What stays small in titles and names.
SMALL_WORDS = frozenset(
    "of the and in with to a an for on at by from or as de la le du des et der die das von van und del di da y e".split()
)

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """result answer solution final total the of and to in is are was were be been being am it its that this these those then
            than there their they them he she his her him we our us you your i me my a an as at by for from with on or not no if so
            but do does did has have had will would can could should may might must shall what when where which who whom whose why how
            all any each both some one two also only into about over out up down let let's since because therefore thus hence we'll
            we're that's it's isn't don't more most other such same between after before while until again very just now here every
            either neither get gets gives first next means""",
        "fr": """résultat réponse solution le la les un une des du de et est en que qui dans pour par sur avec pas ne ce cette ces cet se
            son sa ses leur leurs il elle ils elles on nous vous je tu mon ma mes notre nos votre au aux ou où mais donc or ni car si
            sont était être avoir ont avait a plus moins comme alors aussi ainsi tout tous toute toutes même deux chaque entre sans
            sous après avant puis quand lorsque parce soit peut peuvent doit c'est n'est qu'il qu'elle qu'on d'un d'une d'abord
            ensuite maintenant sinon lequel laquelle très cela ça faut fait j'ai encore""",
        "es": """respuesta resultado solución por lo tanto el la los las un una unos unas de del y e en que es son era fue ser está están
            estar para con no se su sus le les al a o u pero como más menos si sí ya muy también este esta estos estas ese esa eso
            esto cuando donde porque pues entonces así cada dos entre sin sobre hasta desde todo todos toda todas otro otra mismo hay
            tiene tienen ha han puede pueden debe yo nos nosotros ustedes mi tu qué cuál cuántos luego ahora según ni""",
        "pt": """resposta resultado solução portanto o a os as um uma uns umas de do da dos das e em no na nos nas que é são era foi ser
            está estão por para com não se seu sua seus suas ao aos à às ou mas como mais menos já muito também este esta estes isto
            esse essa isso quando onde porque então assim cada dois duas entre sem sobre até desde todo todos toda todas outro outra
            mesmo há tem têm pode podem deve eu nós você vocês pelo pela pelos pelas num numa ele ela eles elas qual quantos agora
            vamos depois""",
        "it": """risposta risultato soluzione pertanto il lo la i gli le un uno una di del dello della dei degli delle e ed è in nel
            nella nei nelle che chi per con non si su sul sulla da dal dalla dai dalle al alla ai alle a o ma come più meno se anche
            questo questa questi queste quello quella quando dove perché quindi così ogni due tra fra senza sopra fino tutto tutti
            tutta tutte altro altra stesso c'è sono era stato essere ha hanno può possono deve io noi voi loro lui lei suo sua suoi ci
            ne poi ora allora dunque cui l'altro dell'""",
        "de": """antwort ergebnis lösung daher somit folglich der die das den dem des ein eine einen einem einer eines und ist sind war
            waren sein in im ins zu zum zur von vom mit für auf an am aus bei nach über unter durch nicht es er sie wir ihr ich du man
            sich seine ihre unser wenn dass daß weil da denn aber oder auch nur noch so wie als wird werden wurde kann können muss
            müssen soll haben hat hatte dann also damit dieser diese dieses diesen diesem jede jeder jedes alle zwei zwischen ohne bis
            um hier dort nun jetzt mehr sehr schon welche was wer wo""",
        "nl": """antwoord resultaat oplossing de het een en is zijn was waren van in op te met voor aan bij uit naar over onder door niet
            geen dat die dit deze er hij zij ze wij we ik je jij u men zich haar hun ons onze als want maar of ook nog zo dan dus
            wordt worden werd kan kunnen moet moeten zal hebben heeft had daarom omdat elke elk ieder alle twee tussen zonder tot om
            hier daar nu meer zeer al welke wat wie waar hoe wanneer""",
        "ca": """el la els les un una uns unes de del dels i en que és són era ser està estan per amb no es seu seva seus lo al als a o
            però com més menys si ja molt també aquest aquesta aquests aquestes això quan on perquè doncs llavors així cada dos dues
            entre sense sobre fins des tot tots tota totes altre altra mateix hi ha té tenen pot poden han jo nosaltres vostè què quin
            quina ara pel pels l'altre resposta resultat solució""",
        "ro": """și si este sunt era fi a al ai ale o un una unui unei de din la în cu pe pentru nu se că care ce dar sau mai ca cum când
            unde deoarece deci astfel fiecare doi două între fără peste până tot toți toate alt alta acest această aceste acești acel
            am are au avem poate pot trebuie eu noi voi ei ele el ea lui lor să dacă atunci acum foarte prin după răspuns răspunsul
            rezultat soluție""",
        "pl": """i w we z ze na do od po o u za przez dla nie się jest są był była było być to ten ta te tego tej tym tych że który która
            które których jak ale lub albo czy gdy kiedy gdzie więc zatem ponieważ bo dlatego każdy każda dwa dwie między bez nad pod
            aż wszystkie wszystko inny tak także też już bardzo może można musi ma mają mamy ja my wy on ona oni jego jej ich sobie
            jeśli jeżeli teraz oraz tylko odpowiedź wynik rozwiązanie""",
        "cs": """a i v ve z ze na do od po o u za přes pro ne se si je jsou byl byla bylo být to ten ta tento tato toto těch že který
            která které jak ale nebo či když kde tedy proto protože neboť každý každá dva dvě mezi bez nad pod až všechny vše jiný tak
            také už velmi může lze musí má mají máme já my vy on ona oni jeho její jejich pokud jestliže nyní teď jen pouze pak potom
            odpověď výsledek řešení""",
        "hu": """a az és egy nem is hogy van vannak volt ez ezt azt ennek annak ezek azok de vagy ha mert mint csak már még meg el ki be
            fel le minden két között nélkül után előtt alatt szerint aki ami amely mely ahol amikor akkor így tehát ezért mivel nagyon
            lehet kell én te ő mi ti ők most itt ott ben ban válasz eredmény megoldás""",
        "sv": """och i att det den de en ett som är var på av för med till inte om han hon vi jag du man sig sin sitt sina har hade kan
            kunde ska skulle måste blir blev eller men också så då därför eftersom varje två mellan utan över under efter från när där
            här nu mer mycket alla andra detta denna dessa vad vem hur än vid svar svaret resultat lösning""",
        "da": """og i at det den de en et som er var på af for med til ikke om han hun vi jeg du man sig sin sit sine har havde kan kunne
            skal skulle må bliver blev eller men også så da derfor fordi hver to mellem uden over under efter fra når hvor her nu mere
            meget alle andre dette denne disse hvad hvem hvordan end ved å av seg sitt hadde blir ble mellom uten etter nå mer mye hva
            enn svar svaret resultat løsning""",
        "fi": """ja on ei että se ne joka jotka mikä mitä kun jos niin kuin mutta tai myös vain sen siitä sitä tämä tämän tätä nämä ovat
            oli olivat olla voi voidaan pitää täytyy minä sinä hän me te he jokainen kaksi välillä ilman yli alla jälkeen ennen sitten
            siis koska joten nyt tässä siinä hyvin kaikki toinen sekä eli vastaus tulos ratkaisu""",
        "tr": """ve bir bu da de için ile o şu çok daha en gibi kadar sonra önce ama veya ya değil var yok ise eğer çünkü olarak olan
            olur her iki arasında hangi ne nasıl neden şimdi yani böylece ki mı mi mu mü ben sen biz siz onlar bunu buna bunun onun
            tüm tek cevap yanıt sonuç çözüm""",
        "id": """yang dan di ke dari ini itu untuk dengan adalah pada tidak dalam akan juga atau karena jadi maka jika bila kita kami
            saya anda dia mereka sudah telah bisa dapat harus lebih sangat semua setiap dua antara tanpa oleh sebagai seperti ada
            bahwa tetapi namun sehingga lalu kemudian sekarang hanya jawaban hasil""",
        "vi": """và của là có không được cho với trong một các những này đó khi thì mà để từ đến ở ra vào như nhưng hoặc hay nếu vì nên
            do đã sẽ đang cũng rất nhiều hơn mỗi hai giữa tôi chúng ta bạn nó họ tất cả bằng theo trên dưới sau trước vậy đáp án kết
            quả""",
        "ru": """ответ результат решение следовательно и в во не на я он она оно они мы вы ты что с со как а то это этот эта эти этого по
            к ко но из у за от о об для до же бы ли так если или есть был была было были быть его её их ее мне нам нас вас все всё
            весь вся каждый каждого два две между без над под при через потому поэтому значит тогда когда где который которая которое
            которые чтобы также только уже ещё еще очень может можно нужно теперь затем сначала иначе сколько снова там тут этом того""",
        "uk": """відповідь результат і й та в у не на я він вона воно вони ми ви ти що з із зі як а то це цей ця ці цього по до але або
            чи за від о об для ж би так якщо є був була було були бути його її їх мені нам нас вас все всі весь вся кожен кожного два
            дві між без над під при через тому отже тоді коли де який яка яке які щоб також лише тільки вже ще дуже може можна треба
            потрібно тепер потім спочатку інакше скільки знову там тут цьому того""",
        "bg": """и в във не на аз той тя то те ние вие ти че с със как а това този тази тези по към но из за от о до ли да ще се си са е
            съм беше бяха бъде има няма му я ги ни ви все всички всеки два две между без над под при през защото затова значи тогава
            когато където който която което които също само вече още много може трябва сега след така ако или отговор резултат решение""",
        "sr": """и у не на ја он она оно они ми ви ти да са с као а то ово овај ова ови по ка али из за од о до ли ће се си је су сам био
            била било бити има нема му га их нам вам све сви сваки два две између без над под при кроз јер зато дакле онда када где
            који која које такође само већ још врло може треба сада после тако ако или i ne na ja on ona ono oni mi vi ti da sa kao to
            ovo ovaj ova ovi po ka ali iz za od do li će se si je su sam bio bila bilo biti ima nema ga ih nam vam sve svi svaki
            između bez nad pod pri kroz jer zato dakle onda kada gde gdje koji koja koje takođe samo već još vrlo može treba sada
            posle poslije tako ako ili što одговор резултат решење odgovor rezultat rešenje""",
        "ar": """في من على إلى عن أن إن لا ما هذا هذه ذلك تلك التي الذي الذين هو هي هم نحن أنا كان كانت يكون تكون كل مع بعد قبل بين عند
            حتى أو ثم لكن إذا لو قد لقد كما لأن أي غير منذ حيث لم لن ليس هل كم وهو وهي فإن ومن وفي وأن بما مما عندما الجواب الإجابة
            النتيجة""",
        "fa": """و در به از که این آن را با است بود شد شده می برای تا بر هر یا اگر نیز هم ما من او آنها شما باید پس چون زیرا چه یک دو بین
            خود دیگر اما ولی بدون بعد همه های کرد کند کنیم باشد دارد داریم نیست هستند پاسخ جواب نتیجه""",
        "ur": """اور کے کی کا میں ہے ہیں تھا تھی تھے سے کو نے پر یہ وہ کہ جو ایک دو نہیں بھی تو اگر یا لیکن ہم آپ ان اس اپنے کر کیا ہو
            ہوتا ہوتی گا گی گے لئے لیے ساتھ بعد پہلے درمیان ہر سب چاہیے کیونکہ پھر اب جواب نتیجہ""",
    }.items()
}
