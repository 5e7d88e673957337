"""The pipeline: fetch, evaluate, summarise, as a Snakemake DAG with content-addressed outputs."""
