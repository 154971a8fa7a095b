"""Writes the packages of the town's index: wheels of pure Python, the same bytes each time.

usage: wheels.py DIRECTORY     prints a JSON list of {"name", "version", "file", "sha256"}
"""

import base64
import hashlib
import json
import os
import sys
import zipfile

PACKAGES = [
    ("greeting", "1.0", 'def greet(name):\n    return f"hello, {name}"\n', []),
    ("greeting", "1.1", 'def greet(name):\n    return f"good day, {name}"\n', []),
    ("parting", "1.0", 'from greeting import greet\n\n\ndef part(name):\n    return greet(name) + " and goodbye"\n',
     ["greeting>=1.0"]),
]


def wheel(directory, name, version, code, needs):
    place = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": code,
        f"{place}/METADATA": metadata,
        f"{place}/WHEEL": "Wheel-Version: 1.0\nGenerator: town\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()}"
        f",{len(text.encode())}\n" for path, text in files.items())
    files[f"{place}/RECORD"] = record + f"{place}/RECORD,,\n"
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, file), "w") as archive:
        for path, text in files.items():
            # ZipInfo's own time is always the same, and the archive's digest with it.
            archive.writestr(zipfile.ZipInfo(path), text)
    with open(os.path.join(directory, file), "rb") as written:
        digest = hashlib.sha256(written.read()).hexdigest()
    return {"name": name, "version": version, "file": file, "sha256": digest}


os.makedirs(sys.argv[1], exist_ok=True)
print(json.dumps([wheel(sys.argv[1], *package) for package in PACKAGES]))
