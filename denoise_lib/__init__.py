"""A thin library behind the notebooks: losses, models, sampling, training loop, evaluator, runs, report."""
