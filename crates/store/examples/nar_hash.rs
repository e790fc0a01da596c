//! Prints the SHA-256 of a file's or folder's archive, and the path it would have as a source.
//!
//! ```text
//! cargo run --release -p nivis-store --example nar_hash -- FOLDER
//! ```

#[cfg(unix)]
fn main() -> nivis_store::Result<()> {
    use nivis_store::ingest::hash_tree;
    use nivis_store::nar::FileSystem;
    use nivis_store::{ContentAddressMethod, HashAlgorithm, StoreDir};

    for path in std::env::args().skip(1) {
        let root = FileSystem::node(&path);
        let method = ContentAddressMethod::Nar;
        let content = hash_tree(&mut FileSystem, &root, method, HashAlgorithm::Sha256)?;
        let store = StoreDir::default();
        println!("{}", content.hash);
        match store.make_fixed_output_path("source", &content) {
            Ok(path) => println!("{}", store.print(&path)),
            Err(e) => eprintln!("{e}"),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs a Unix file system");
}
