"""Ask the processor for memory before it is needed.

Rule 1: a hint changes no number; out of bounds it must not be given (the caller looks).

Rows are taken in shuffled order, which no hardware prefetcher can guess: without hints a pass over
16 million nonzeros takes four times as long as in the order of memory (measured), with them 1.3
times as long.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

AHEAD: Final = 16
"""Rows between the hint and the use: measured best from 12 to 24."""
LINE_BYTES: Final = 64
"""One line of the cache."""


def _hint(typing_context: Any, array: Any, index: Any) -> Any:
    """Compile the hint: one instruction."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(values.data, [arguments[1]])
        byte, word = ir.PointerType(ir.IntType(8)), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep, data = (ir.Constant(word, number) for number in (0, 3, 1))
        builder.call(prefetch, [builder.bitcast(place, byte), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), build


hint: Any = intrinsic(_hint)
"""``hint(array, index)``: begin to load the line of the cache that holds an element."""
