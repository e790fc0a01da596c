//! nivis
use nivis_eval::*;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
struct Real;
impl Host for Real {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> { std::fs::read(path) }
    fn read_dir(&self, _: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> { Err(io::Error::other("no")) }
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        Ok(std::fs::symlink_metadata(path).ok().map(|m| if m.is_dir() { FileType::Directory } else if m.is_symlink() { FileType::Symlink } else { FileType::Regular { executable: false } }))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> { std::fs::read_link(path) }
    fn env(&self, _: &[u8]) -> Option<Vec<u8>> { None }
    fn now(&self) -> i64 { 0 }
    fn message(&self, text: &[u8]) { eprintln!("{}", String::from_utf8_lossy(text)) }
    fn copy_to_store(&self, _: &Path, _: &[u8]) -> io::Result<Vec<u8>> { Err(io::Error::other("no store")) }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut settings = Settings::default();
    settings.max_call_depth = std::env::var("DEPTH").ok().and_then(|d| d.parse().ok()).unwrap_or(10000);
    let mut m = Machine::new(Rc::new(Real), settings);
    if std::env::var("STRESS").is_ok() { m.set_stress(); }
    nivis_builtins::install(&mut m);
    let r = m.load_text(args[1].as_bytes(), Origin::Text("expr".into()), Path::new("/tmp")).and_then(|v| m.force(v)).and_then(|v| m.run_native(ops::force_deep, &[v]));
    match r {
        Ok(v) => println!("{}", String::from_utf8_lossy(&m.print(v, &print::PrintOptions::CLASSIC))),
        Err(e) => { println!("error: {} at {}", e, m.describe_position(e.data().span.start)); for t in e.data().trace.iter().take(10) { println!("  {} at {}", t.message, m.describe_position(t.span.start)) } if let Some(r) = &e.data().related { println!("  {} {}", r.0, m.describe_position(r.1.start)); } std::process::exit(1) }
    }
}
