"""The board: a page that shows runs while they train and afterwards, read from their folders."""

from pullpush.extras import need

need("search")

from pullpush.board.server import Board, board, live

__all__ = ["Board", "board", "live"]
