//! Store paths, hashes, derivations and archives of the Nix store.
//!
//! The pure half are formats and computations, byte for byte those of C++ Nix. It
//! opens no files (but for [`nar::FileSystem`], a source that callers may choose), starts no threads,
//! keeps no global state, and knows nothing of the evaluator's values. The machine half (`local`, `build` and the `events` that
//! both tell) comes with the feature `machine`: local stores on disk, and builds.
//!
//! How data flows: an evaluator fills in a [`Derivation`];
//! [`finish`](Derivation::finish) writes its ATerm form into SHA-256, looks up the hashes of
//! its inputs in a [`DrvHashes`], and gives the path of the `.drv` file. Sources
//! are walked by [`nar::write_nar`], which streams into a [`Hasher`] (for a path) or
//! into a file; [`StoreDir`] makes a path of the hash.
//!
//! Every parser is strict: it accepts what the matching writer writes, and nothing else, so that what
//! was read can be written again with the same hash. The one exception are hashes that people write in
//! the language ([`Hash::parse_any`](Hash::parse_any)). Parsers neither panic nor recurse deeper
//! than a fixed limit, whatever the input; their errors tell the byte offset.
//!
//! ```
//! use nivis_store::{Derivation, DerivationOutput, DrvHashMemo, StoreDir};
//!
//! # fn main() -> nivis_store::Result<()> {
//! let store = StoreDir::default();
//! let mut hashes = DrvHashMemo::new();
//! let mut drv = Derivation::new("example");
//! drv.platform = "x86_64-linux".into();
//! drv.builder = "/bin/sh".into();
//! drv.outputs.insert("out".into(), DerivationOutput::Deferred);
//! let drv_path = drv.finish(&store, &mut hashes)?;
//!
//! let text = drv.to_aterm(&store)?;
//! assert_eq!(Derivation::parse_aterm(&store, "example", &text)?, drv);
//! assert!(store.print(&drv_path).ends_with("-example.drv"));
//!
//! // Another derivation that needs its output.
//! let mut user = drv.clone();
//! user.name = "user".into();
//! user.outputs.insert("out".into(), DerivationOutput::Deferred);
//! user.env.clear();
//! user.input_drvs.insert(drv_path, ["out"].into_iter().collect());
//! user.finish(&store, &mut hashes)?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "machine")]
pub mod build;
pub mod content_address;
pub mod derivation;
mod error;
pub mod escape;
#[cfg(feature = "machine")]
pub mod events;
pub mod export;
pub mod hash;
pub mod ingest;
pub mod json;
#[cfg(feature = "machine")]
pub mod local;
pub mod nar;
pub mod placeholder;
pub mod registration;
#[cfg(feature = "machine")]
pub mod signature;
pub mod store_path;

pub use content_address::{ContentAddress, ContentAddressMethod};
pub use derivation::{
    Derivation, DerivationKind, DerivationOutput, DerivationParts, DrvHash, DrvHashMemo, DrvHashes,
    Finished, InputNames, InputOutputs, OutputName,
};
pub use error::{Error, ErrorKind, Result, io_text};
pub use hash::{Hash, HashAlgorithm, HashFormat, Hasher};
pub use placeholder::{DownstreamPlaceholder, hash_placeholder};
pub use store_path::{StoreDir, StorePath, StoreReferences};
