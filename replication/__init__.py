"""The experiment that uses ``denoise_lib``: data sources, what is compared, runs, reports, studies, and the commands."""
