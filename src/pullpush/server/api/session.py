"""The session: a browser gives the token once."""

from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Request, Response

from pullpush.server.middleware import cookie_name, same

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["session"])


@router.post("/session", summary="Give the token once; a cookie keeps it", status_code=204)
async def begin_session(request: Request, sent: Annotated[str, Body(embed=True, alias="token")]) -> Response:
    """Compares the token in a time that does not tell how much of it is right."""
    token = request.app.state.token
    if not token or not same(sent, token):
        raise HTTPException(401, "that is not the token")
    answer = Response(status_code=204)
    answer.set_cookie(
        cookie_name(request.scope), token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer
