"""Makes the files beside it, which only other programs can write: JPEG by libjpeg, npz by NumPy.

python3 -m venv venv && venv/bin/pip install numpy pillow && venv/bin/python make.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

here = Path(__file__).parent

# red rises to the right, green downwards, blue is 128
ramp = np.arange(32, dtype=np.uint8) * 8
colour = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:, None], np.uint8(128)), axis=2)
Image.fromarray(colour).save(here / "colour.jpg", quality=90)
Image.fromarray(np.broadcast_to(ramp[None, :], (32, 32)).copy()).save(here / "gray.jpg", quality=90)

x = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2) / 32
np.savez(here / "float.npz", x=x, y=np.array([1, 0], np.int16))
bytes_ = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
np.savez_compressed(here / "bytes.npz", x=bytes_, y=np.array([0, 4], ">u4"), classes=7)
np.savez(here / "fortran.npz", x=np.asfortranarray(x), y=np.array([1, 0]))
