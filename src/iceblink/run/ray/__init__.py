"""The backend on Ray Core; imported only where the engine is Ray."""
