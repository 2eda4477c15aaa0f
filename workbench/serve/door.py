"""Who gets in: one check before every route of the servers, whatever handler answers there.

Without the run's own token only the login page answers. A request for another host name (DNS rebinding), or
one that a page of another origin makes, is refused with the token too.
"""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.auth.logout import LogoutHandler
from jupyter_server.base.handlers import APIHandler, AuthenticatedHandler
from tornado.httputil import HTTPServerRequest, split_host_and_port
from tornado.web import Application, RequestHandler, StaticFileHandler

from workbench.serve.login import LoginPage

NO_TOKEN = "this address needs the token: open the address that `workbench` printed"
FOREIGN_HOST = "the workbench answers at this machine's own address alone: open the one that it printed"
FOREIGN_PAGE = "a page of another address asked for this, and only the workbench's own pages may"
FOREIGN_LINK = "a page of another address led here: open the address that `workbench` printed"
UNCHECKED = "what answers at this address cannot ask for the token, so it is not asked"

# What Jupyter's handlers look up before each answer, whoever has set it otherwise by then.
SETTINGS: dict[str, Any] = {
    "allow_origin": "",
    "allow_origin_pat": None,
    "allow_credentials": False,
    "allow_remote_access": False,
    "allow_unauthenticated_access": False,
    "disable_check_xsrf": False,
    "headers": {},
    "local_hostnames": ["localhost"],
    "xsrf_cookies": True,
    "xsrf_cookie_kwargs": {"samesite": "Lax"},
}


class TokenIdentity(PasswordIdentityProvider):
    """One token lets in, and no password; the name is a section of the configuration that is ours alone."""

    def get_handlers(self) -> list[tuple[str, object]]:
        """Our login page, whatever class the server has been told."""
        return [("/login", LoginPage), ("/logout", LogoutHandler)]


def identity_settings(token: str) -> dict[str, Any]:
    """The settings of TokenIdentity that let in one token, and nothing that a user's files name.

    Args:
        token: the secret of this run.

    Returns:
        Values for the section `TokenIdentity` of a configuration.
    """
    return {
        "token": token,
        "hashed_password": "",
        "password_required": False,
        "allow_password_change": False,
        "cookie_name": "",
        "cookie_options": {"samesite": "Lax"},
        "get_secure_cookie_kwargs": {},
        "secure_cookie": None,
        "login_handler_class": "jupyter_server.auth.login.LoginFormHandler",
        "logout_handler_class": "jupyter_server.auth.logout.LogoutHandler",
    }


def close_door(application: Application, notebooks: Path) -> None:
    """Put the check before every route of `application`, also before those that are added later.

    Args:
        application: a server whose settings hold its `identity_provider`; those of SETTINGS become ours.
        notebooks: the folder whose files, if any handler serves them, run no script in the page's origin.
    """
    application.settings.update(SETTINGS)
    stock, find = application.get_handler_delegate, application.find_handler
    made: dict[type[RequestHandler], type[RequestHandler]] = {}

    def checked(request: HTTPServerRequest, handler: type[RequestHandler], *rest: Any, **named: Any) -> Any:
        if handler not in made:
            made[handler] = _guarded(handler, notebooks.resolve())
        return stock(request, made[handler], *rest, **named)

    def found(request: HTTPServerRequest, **named: Any) -> Any:
        why = _why_not(request)
        if not why:
            answers = find(request, **named)
            if issubclass(getattr(answers, "handler_class", object), _Guard):
                return answers
            why = UNCHECKED
        return stock(request, _Refusal, {"why": why})

    # Tornado asks these two for whatever will answer, and documents them as the places to say otherwise.
    application.get_handler_delegate = checked  # type: ignore[assignment, method-assign]
    application.find_handler = found  # type: ignore[method-assign]


def _guarded(handler: type[RequestHandler], notebooks: Path) -> type[RequestHandler]:
    guard: type[RequestHandler] = _FileGuard if issubclass(handler, StaticFileHandler) else _Guard
    bases = (guard, handler) if issubclass(handler, AuthenticatedHandler) else (guard, handler, _Plain)
    # The handler's module, because Jupyter looks there for who wrote a method.
    members = {"_notebooks": notebooks, "__module__": handler.__module__}
    return type(handler.__name__, bases, members)


class _Plain:
    """What an identity provider asks of a handler, for those that are not Jupyter's."""

    settings: dict[str, Any]
    log = logging.getLogger("tornado.application")

    @property
    def token(self) -> str:
        return str(self.settings["identity_provider"].token)

    @property
    def base_url(self) -> str:
        return str(self.settings["base_url"])


class _Guard(RequestHandler):
    """Stands before a handler's own first step."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("X-Content-Type-Options", "nosniff")
        # The address holds the token, so it is not told to other sites.
        self.set_header("Referrer-Policy", "same-origin")

    async def prepare(self, *arguments: Any, **named: Any) -> None:
        user = await ensure_async(self.settings["identity_provider"].get_user(self))
        if not isinstance(self, LoginPage):
            if user is None:
                return self._refuse(NO_TOKEN)
            if is_led_here(self.request) and not getattr(self, "_token_authenticated", False):
                return self._refuse(FOREIGN_LINK)
        # Jupyter's own first step takes it from here, and so asks only once.
        self.current_user = self._jupyter_current_user = user
        step = super().prepare(*arguments, **named)
        if step is not None:
            await step

    def flush(self, include_footers: bool = False) -> Any:
        if not self._headers_written:
            self._sandbox()
        return super().flush(include_footers)

    def _sandbox(self) -> None:
        """Let no picture run a script: it needs none, and could start a kernel in the page's origin."""
        policy = self._headers.get("Content-Security-Policy", "")
        kind = self._headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind.endswith("xml") or self.request.path.lower().endswith((".svg", ".svgz")):
            self._restrict(policy.replace("sandbox allow-scripts", "sandbox"))
        elif "sandbox" in policy and "token" in self.request.arguments:
            # What runs there could read the token in its own address.
            self._restrict(policy.replace("sandbox allow-scripts", "sandbox"))

    def _restrict(self, policy: str) -> None:
        if "sandbox" not in policy:
            policy = f"{policy}; sandbox".removeprefix("; ")
        self.set_header("Content-Security-Policy", policy)

    def _refuse(self, text: str) -> None:
        self.current_user = self._jupyter_current_user = None
        why: str | dict[str, str] = {"message": text} if isinstance(self, APIHandler) else text
        asks_for_page = self.request.method == "GET" and "text/html" in self.request.headers.get("Accept", "")
        if text == NO_TOKEN and asks_for_page:
            query = urlencode({"next": self.request.uri})
            self.set_header("Location", f"{self.settings['login_url']}?{query}")
            self.set_status(302)
        else:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.set_status(403)
        # Tornado's own, because some handlers have a `finish` that wants more.
        RequestHandler.finish(self, why)


class _FileGuard(_Guard, StaticFileHandler):
    """Stands before a handler that serves files."""

    _notebooks = Path()

    def set_extra_headers(self, path: str) -> None:
        super().set_extra_headers(path)
        if Path(self.absolute_path or "").resolve().is_relative_to(self._notebooks):
            self._restrict(self._headers.get("Content-Security-Policy", ""))


class _Refusal(RequestHandler):
    """Answers in place of a handler, which then does not see the request at all."""

    def initialize(self, why: str) -> None:
        self._why = why

    def check_xsrf_cookie(self) -> None:
        pass

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(self._why)


def _why_not(request: HTTPServerRequest) -> str:
    """Why not even the token lets this request in, or nothing."""
    if not is_local(request.host):
        return FOREIGN_HOST
    return FOREIGN_PAGE if is_foreign(request) else ""


def is_local(host: str) -> bool:
    """Whether a request is for this machine by a name that only this machine has.

    Args:
        host: the request's `Host`, with or without a port.

    Returns:
        True for localhost and every loopback address.
    """
    name = split_host_and_port(host.lower())[0].strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def is_foreign(request: HTTPServerRequest) -> bool:
    """Whether a page of another origin makes this request; opening an address in a tab is not that.

    Args:
        request: any; what the browser says of its origin decides, and programs say nothing.

    Returns:
        True where `Origin` or the `Sec-Fetch` headers name another page.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{request.host.lower()}":
        return True
    return _is_of_another_site(request) and not is_led_here(request)


def is_led_here(request: HTTPServerRequest) -> bool:
    """Whether a page of another origin opens this address in a tab.

    The address alone can start a kernel or have JupyterLab fetch a file (`fromURL`), so that page needs the
    token in it.

    Args:
        request: any.

    Returns:
        True where the `Sec-Fetch` headers say so.
    """
    how = tuple(request.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest"))
    return _is_of_another_site(request) and request.method == "GET" and how == ("navigate", "document")


def _is_of_another_site(request: HTTPServerRequest) -> bool:
    return request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}
