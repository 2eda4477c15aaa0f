"""The ways to open the workbench: JupyterLab on its notebook, and the notebook as a page of its own."""
