"""Loads a real chat model for the demo, or says in a sentence why it cannot."""

from __future__ import annotations

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from fmos.errors import ArgumentError, MissingExtraError


def load_model(name: str) -> BaseChatModel:
    """Return the model `provider:model`.

    Raises:
        MissingExtraError: if the provider's package is not installed.
        ArgumentError: if the name or the provider's settings are not usable.
    """
    hint = "set FMOS_DEMO_MODEL to provider:model, or leave it unset for the scripted model"
    try:
        model = init_chat_model(name)
    except ImportError as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise MissingExtraError(f"cannot load the model {name!r}: {said}", hint=hint) from error
    except Exception as error:  # a provider raises what it likes for a missing key
        said = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
        message = f"cannot load the model {name!r}: {said or type(error).__name__}"
        raise ArgumentError(message, hint=hint) from error
    if not isinstance(model, BaseChatModel):
        raise ArgumentError(f"{name!r} names no single chat model", hint=hint)
    return model
