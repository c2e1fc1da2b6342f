"""Claims, verdicts, figures and reports, all made from tidy rows; the ledger of claims is `claims.toml`."""
