"""Built-in retrievers and policy modules, and how plug-ins of these kinds are used."""
