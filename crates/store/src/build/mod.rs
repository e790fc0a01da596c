//! Building derivations in a sandbox.
