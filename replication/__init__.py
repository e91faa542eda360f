"""The experiment that uses ``denoise_lib``: sources, what is compared, runs, reports, studies, and the commands."""
