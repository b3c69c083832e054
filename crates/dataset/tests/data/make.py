"""Makes the files beside it, which only other programs can write: images by Pillow, npz and pickles by NumPy, MAT-files
by SciPy. All are synthetic.

python3 -m venv venv && venv/bin/pip install numpy pillow scipy && venv/bin/python make.py
"""

import pickle
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from scipy.io import savemat

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


# The planes of src/resample.rs and src/reading.rs, resized by Pillow: two sizes and the values, a line each.
with open(here / "resized.txt", "w") as out:
    out.write("# width height width height values..., by Pillow " + PIL.__version__ + "\n")
    for size, to in [((28, 28), (8, 8)), ((5, 4), (9, 7)), ((7, 3), (3, 3)), ((4, 9), (4, 5)), ((1, 1), (3, 2)),
                     ((40, 36), (10, 9)), ((6, 5), (1, 1)), ((9, 2), (4, 8))]:
        at = np.arange(size[0] * size[1], dtype=np.int64)
        plane = (at * at * 7 + at * 13).astype(np.uint8).reshape(size[1], size[0])
        values = np.asarray(Image.fromarray(plane).resize(to, Image.Resampling.BILINEAR)).ravel()
        out.write(" ".join(map(str, [*size, *to, *values])) + "\n")


# formats/: one small image in every format, see tests/formats.rs.
formats = here / "formats"
formats.mkdir(exist_ok=True)
x, y = np.meshgrid(np.arange(7), np.arange(5))
colour = np.stack([30 * x + y, 50 * y, 255 - 30 * x - y], axis=2).astype(np.uint8)
gray = (36 * x + y).astype(np.uint8)
opaque, alpha = np.full_like(gray, 255), gray
image = Image.fromarray(colour)
for name, options in [("rgb.png", {}), ("rgb.bmp", {}), ("rgb.ppm", {}), ("rgb.tiff", {}), ("rgb.webp", {"lossless": True}),
                      ("rgb-lzw.tif", {"compression": "tiff_lzw"}), ("rgb-packbits.tif", {"compression": "packbits"}),
                      ("rgb-deflate.tif", {"compression": "tiff_adobe_deflate"})]:
    image.save(formats / name, **options)
for name in ["gray.png", "gray.bmp", "gray.pgm", "gray.tif"]:
    Image.fromarray(gray).save(formats / name)
for name, channel in [("rgba-opaque.png", opaque), ("rgba-opaque.tif", opaque), ("rgba.png", alpha), ("rgba.tif", alpha),
                      ("rgba.webp", alpha), ("rgb32.bmp", alpha)]:  # in a BMP of 32 bits the fourth byte says nothing
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    Image.fromarray(np.dstack([colour, channel]), "RGBA").save(formats / name, **options)
for name, channel in [("gray-alpha-opaque.png", opaque), ("gray-alpha-opaque.tif", opaque), ("gray-alpha.png", alpha),
                      ("gray-alpha.tif", alpha)]:
    Image.fromarray(np.dstack([gray, channel]), "LA").save(formats / name)
for name in ["gray16.png", "gray16.tif"]:
    Image.fromarray(gray.astype(np.uint16) * 256 + 200).save(formats / name)
for name in ["bits.png", "bits.bmp", "bits.tif"]:
    Image.fromarray(np.where(gray > 127, 255, 0).astype(np.uint8)).convert("1").save(formats / name)
for name in ["palette.png", "palette.bmp", "palette.tif"]:
    image.quantize(35, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(formats / name)
image.convert("CMYK").save(formats / "cmyk.jpg")
Image.fromarray(gray.astype(np.float32)).save(formats / "float.tif")
# Pillow writes no RLE: a header of 8 bits a pixel, compression 1, and no pixels that are looked at.
bmp = bytearray((formats / "palette.bmp").read_bytes())
bmp[30] = 1
(formats / "rle.bmp").write_bytes(bmp)


# pickles/: CIFAR batches as Python 3 writes them in each protocol; tests/cifar_python.rs writes Python 2's by hand.
pickles = here / "pickles"
pickles.mkdir(exist_ok=True)
rows = ((np.arange(3072) * 7 + np.arange(2)[:, None] * 31) % 251).astype(np.uint8)
for protocol in [2, 3, 4, 5]:
    batch = {"batch_label": "testing batch 1 of 1", "labels": [3, 8], "data": rows, "filenames": ["a.png", "b.png"]}
    (pickles / f"protocol-{protocol}").write_bytes(pickle.dumps(batch, protocol))
batch = {b"fine_labels": np.array([99, 0]), b"coarse_labels": [np.int64(19), np.int64(1)], b"data": np.asfortranarray(rows)}
(pickles / "arrays").write_bytes(pickle.dumps(batch, 4))


# mat/: SVHN's layout with three images, value (n * 50 + row * 3 + column * 2 + channel * 40) % 251.
mats = here / "mat"
mats.mkdir(exist_ok=True)
r, c, k, n = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), np.arange(3), indexing="ij")
images = ((n * 50 + r * 3 + c * 2 + k * 40) % 251).astype(np.uint8)
labels = np.array([[10], [1], [9]], np.uint8)
savemat(mats / "compressed.mat", {"note": "other arrays are passed over", "X": images, "y": labels}, do_compression=True)
savemat(mats / "plain.mat", {"s": {"field": 1}, "y": labels[:1].astype(np.float64), "X": images[..., :1]}, do_compression=False)
savemat(mats / "unequal.mat", {"X": images[..., :1], "y": labels}, do_compression=True)
savemat(mats / "double.mat", {"X": images.astype(np.float64), "y": labels.astype(np.int64).T}, do_compression=True)
savemat(mats / "fractions.mat", {"X": images / 255, "y": labels}, do_compression=True)
savemat(mats / "level-4.mat", {"y": labels}, format="4")


# npz/: the same images in other types, orders and layouts, see tests/npz.rs.
others = here / "npz"
others.mkdir(exist_ok=True)
counted = np.arange(48).reshape(2, 3, 2, 4)
last = counted.transpose(0, 2, 3, 1)
labels = np.array([[1], [2]], np.int64)
for name, array in {
    "float16": (counted / 48).astype(np.float16),
    "float64": counted / 48,
    "float64-big-endian": (counted / 48).astype(">f8"),
    "float32-nhwc": np.ascontiguousarray(last / 48, np.float32),
    "float64-nhwc-fortran": np.asfortranarray(last / 48),
    "uint8-nchw": counted.astype(np.uint8),
    "uint8-nhwc": np.ascontiguousarray(last, np.uint8),
    "uint8-nchw-fortran": np.asfortranarray(counted, np.uint8),
    "gray": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "int64": counted,
    "bool": counted > 5,
    "objects": counted.astype(object),
}.items():
    np.savez_compressed(others / f"{name}.npz", x=array, y=labels)
train, test = np.zeros((3, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)
y_train, y_test = np.array([0, 2, 1], np.uint8), np.array([1], np.uint8)
np.savez_compressed(others / "keras.npz", x_train=train, y_train=y_train, x_test=test, y_test=y_test)
np.savez_compressed(others / "medmnist.npz", train_images=train, train_labels=y_train[:, None], test_images=test,
                    test_labels=y_test[:, None])
