//! The files that belong to the language itself, as a host of their own.

use nivis_eval::machine::{bytes_path, host_error};
use nivis_eval::{FileType, Host, Machine, Origin, Result, Symbol, Value, own};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const FETCHURL: &[u8] = include_bytes!("fetchurl.nix");

/// The host that has the file of a path: the machine's, or that of our own files.
pub(crate) fn host_of(m: &Machine, path: &[u8]) -> Rc<dyn Host> {
    if own::inside(path).is_some() {
        Rc::new(OwnFiles)
    } else {
        Rc::clone(&m.host)
    }
}

/// The value of a file for `import`, which compiles it once.
pub(crate) fn load(m: &mut Machine, path: &[u8]) -> Result<Value> {
    let file = bytes_path(path);
    if !m.is_loaded(file) {
        let value = load_with(m, path, &[])?;
        m.preload(file, value);
    }
    m.load_file(file)
}

/// The value of a file with variables around it.
pub(crate) fn load_with(
    m: &mut Machine,
    path: &[u8],
    variables: &[(Symbol, Value)],
) -> Result<Value> {
    let text = contents(bytes_path(path)).map_err(|e| host_error(&e, bytes_path(path)))?;
    let origin = Origin::Text("<nix/fetchurl.nix>".into());
    m.load_text_with(text, origin, Path::new("/"), variables)
}

struct OwnFiles;

fn contents(path: &Path) -> io::Result<&'static [u8]> {
    match own::inside(path.as_os_str().as_encoded_bytes()) {
        Some(b"/fetchurl.nix") => Ok(FETCHURL),
        Some(b"") => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

impl Host for OwnFiles {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        contents(path).map(<[u8]>::to_vec)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        match self.file_type(path)? {
            Some(FileType::Directory) => {
                let kind = FileType::Regular { executable: false };
                Ok(vec![(b"fetchurl.nix".to_vec(), kind)])
            }
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        match contents(path) {
            Ok(_) => Ok(Some(FileType::Regular { executable: false })),
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Ok(Some(FileType::Directory)),
            Err(_) => Ok(None),
        }
    }

    fn read_link(&self, _: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_path_buf())
    }

    fn env(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn now(&self) -> i64 {
        0
    }

    fn message(&self, _: &[u8]) {}

    fn copy_to_store(&self, path: &Path, _: &[u8]) -> io::Result<Vec<u8>> {
        let error = own::not_in_store(path.as_os_str().as_encoded_bytes());
        Err(io::Error::other(error.message().to_string()))
    }
}
