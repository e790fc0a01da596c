//! `nivis nar`: archives without a store.

use crate::listing::{ListArgs, Node, list};
use crate::session::{Failure, print};
use clap::Subcommand;
use nivis::store::nar::{FileSystem, NarEvent, NarReader, write_nar};
use nivis_store::ErrorKind;
use nivis_store::io_text;
use nivis_store::local::{CaseHack, Metadata, restore_nar, restore_nar_case_hack};
use std::fs::File;
use std::io::ErrorKind::AlreadyExists;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum NarCommand {
    /// Show what is in an archive
    Ls {
        /// The archive
        nar: PathBuf,
        /// A path in it
        #[arg(default_value = "")]
        path: String,
        #[command(flatten)]
        args: ListArgs,
    },
    /// Print a file of an archive
    Cat {
        /// The archive
        nar: PathBuf,
        /// A path in it
        path: String,
    },
    /// Write the archive of a file or folder to standard output
    #[command(alias = "dump-path")]
    Pack {
        /// The file or folder
        path: PathBuf,
    },
    /// Make files of an archive on standard input
    #[command(alias = "restore")]
    Unpack {
        /// What to make
        path: PathBuf,
    },
}

/// Runs `nivis nar`.
///
/// # Errors
/// Files that cannot be read, archives that are none, paths that are not there.
pub fn run(command: NarCommand) -> Result<(), Failure> {
    match command {
        NarCommand::Ls { nar, path, args } => {
            let root = Node::from_archive(NarReader::new(open(&nar)?))?;
            list(&root, &path, &args)
        }
        NarCommand::Cat { nar, path } => cat(NarReader::new(open(&nar)?), &path),
        NarCommand::Pack { path } => {
            if std::io::stdout().is_terminal() {
                return Err(Failure::Usage("refusing to write NAR to a terminal".into()));
            }
            dump(&path, false)
        }
        NarCommand::Unpack { path } => restore(&path, false),
    }
}

fn open(nar: &Path) -> Result<BufReader<File>, Failure> {
    match File::open(nar) {
        Ok(file) => Ok(BufReader::with_capacity(1 << 16, file)),
        Err(e) => Err(Failure::Other(format!(
            "opening NAR file '{}': {}",
            nar.display(),
            io_text(&e)
        ))),
    }
}

/// Prints one file of an archive; all of the archive is read and checked.
fn cat(mut reader: NarReader<BufReader<File>>, wanted: &str) -> Result<(), Failure> {
    let target = crate::listing::components(wanted);
    let mut here: Vec<Vec<u8>> = Vec::new();
    let mut found = false;
    loop {
        let regular = match reader.next_event()? {
            None => break,
            Some(NarEvent::Entry { name }) => {
                here.push(name.to_vec());
                continue;
            }
            Some(NarEvent::Directory) => continue,
            Some(NarEvent::EndDirectory | NarEvent::Symlink { .. }) => false,
            Some(NarEvent::Regular { .. }) => true,
        };
        if regular {
            let this = here.iter().map(Vec::as_slice).eq(target.iter().copied());
            found |= this;
            let mut buffer = vec![0; 1 << 16];
            loop {
                let n = reader.read_contents(&mut buffer)?;
                if n == 0 {
                    break;
                }
                if this {
                    print(buffer.get(..n).unwrap_or_default())?;
                }
            }
        }
        here.pop();
    }
    if found {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "NAR does not contain regular file '{wanted}'"
    )))
}

/// Writes the archive of a file or folder to standard output.
///
/// # Errors
/// When something cannot be read, is neither file, folder nor link, or standard output cannot be written.
pub fn dump(path: &Path, case_hack: bool) -> Result<(), Failure> {
    let node = FileSystem::node(crate::hash_command::without_links_on_the_way(path)?);
    let out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut out = match case_hack {
        true => write_nar(&mut CaseHack, &node, out)?,
        false => write_nar(&mut FileSystem, &node, out)?,
    };
    out.flush()
        .map_err(|e| Failure::Other(format!("writing to standard output: {}", io_text(&e))))
}

/// Makes files of an archive on standard input, at a place where nothing is.
///
/// # Errors
/// When the archive is none, something is there already, or it cannot be written.
pub fn restore(path: &Path, case_hack: bool) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    let path = std::path::absolute(path)
        .map_err(|e| Failure::Other(format!("'{}': {e}", path.display())))?;
    // What kind of thing it is stands at a fixed place.
    let folder = input
        .fill_buf()
        .is_ok_and(|start| start.get(64..73) == Some(b"directory"));
    let restored = match case_hack {
        true => restore_nar_case_hack(input, &path).map(|_| ()),
        false => restore_nar(input, &path, Metadata::Ordinary).map(|_| ()),
    };
    match restored {
        Ok(_) => Ok(()),
        Err(e) if folder && path.is_dir() && e.kind() == ErrorKind::Io(AlreadyExists) => Err(
            Failure::Other(format!("path '{}' already exists", path.display())),
        ),
        Err(e) => Err(e.into()),
    }
}
