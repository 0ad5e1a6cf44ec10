//! Linux GPU shared virtual memory made usable, safe and observable.
