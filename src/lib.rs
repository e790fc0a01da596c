//! nivis: the Nix language as a Rust library.
