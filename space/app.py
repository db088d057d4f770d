"""The page of lpprop on a Space, which the server reaches by every address of its machine."""

import os

from lpprop.cli import main

port = os.environ.get("GRADIO_SERVER_PORT", "7860")
raise SystemExit(main(["app", "--host", "0.0.0.0", "--port", port]))
