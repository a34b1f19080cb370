"""Bytes and arrays beside the JSON.

    keelback run examples/attachments.py thumbnail --attach image=@photo.raw --out small
    keelback run examples/attachments.py scale '{"factor": 2}' --attach samples=@sound.f32
"""

import array

import keelback


@keelback.function
def thumbnail(image: bytes, every: int = 4) -> dict:
    """An attachment of a parameter's name is its argument; bytes in the result become attachments."""
    small = image[::every]
    return {"bytes": len(image), "small": keelback.Attachment(small, name="small")}


@keelback.function
def scale(samples: memoryview, factor: float = 1.0) -> array.array:
    """An array comes with its type and shape; plain bytes are read as float32 here."""
    view = samples if isinstance(samples, memoryview) else memoryview(samples).cast("f")
    return array.array("f", (factor * sample for sample in view))


@keelback.function(zero_copy=True)
def checksum(data: memoryview) -> int:
    """Looks at the shared memory itself: nothing is copied, and the view ends with the call."""
    return sum(data) & 0xFFFFFFFF
