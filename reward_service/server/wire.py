"""What all wire models share: exact types, no unknown field, and errors that carry no input."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from reward_service.server.bounds import Bounds

TAG = "\0"  # begins the tags of unions in pydantic's locations; `refusals.pointer_of` leaves them out


def bounds_in(info: ValidationInfo) -> Bounds:
    """The server's maxima, which every validation is given as its context."""
    bounds = info.context
    if not isinstance(bounds, Bounds):
        raise TypeError("wire models are validated with Bounds as their context")
    return bounds


def one_of(**alternatives: object) -> None:
    """Refuse none and several."""
    given = [name for name, value in alternatives.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(f"`{name}`" for name in alternatives)
        raise PydanticCustomError("one_of", "needs exactly one of {names}", {"names": names})


class Wire(BaseModel):
    """Base of what is read: no coercion, no unknown field, no NaN, and no input in any message."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, value: object) -> object:
        """Leave out most unknown fields of very many: pydantic would make an error of each, and one is enough to refuse them all."""
        if not isinstance(value, dict) or len(value) <= 2 * len(cls.__pydantic_fields__):
            return value
        known = cls.__pydantic_fields__.keys()
        first_unknown = next(name for name in value if name not in known)
        return {name: item for name, item in value.items() if name in known} | {first_unknown: None}
