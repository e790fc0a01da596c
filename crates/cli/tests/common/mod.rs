//! Running the commands from outside, in a folder and an environment of their own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// A folder that is removed afterwards.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nivis-cli-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        // Temporary folders are behind links on some systems; messages show the real place.
        Folder(path.canonicalize().expect("the folder exists"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) -> &Folder {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("the parent folder");
        }
        std::fs::write(path, text).expect("a file for the test");
        self
    }

    pub fn nivis(&self, args: &[&str]) -> Outcome {
        self.run(Path::new(env!("CARGO_BIN_EXE_nivis")), args, &[], "")
    }

    /// The same program under the name of Nix's command.
    pub fn nix_instantiate(&self, args: &[&str]) -> Outcome {
        self.nix_instantiate_with(args, &[], "")
    }

    pub fn nix_instantiate_with(
        &self,
        args: &[&str],
        env: &[(&str, &str)],
        input: &str,
    ) -> Outcome {
        self.named("nix-instantiate", args, env, input)
    }

    /// The program under another name.
    pub fn named(&self, name: &str, args: &[&str], env: &[(&str, &str)], input: &str) -> Outcome {
        let link = self.0.join(".bin").join(name);
        if !link.exists() {
            std::fs::create_dir_all(self.0.join(".bin")).expect("a folder for the link");
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nivis"), &link).expect("a link");
        }
        self.run(&link, args, env, input)
    }

    fn run(&self, program: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Outcome {
        let mut child = Command::new(program)
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .env("HOME", &self.0)
            .env("NIX_CONF_DIR", self.0.join("no-configuration"))
            .env("NIX_STATE_DIR", self.0.join("no-state"))
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that does not read its input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("the program ends");
        let text =
            |bytes| String::from_utf8_lossy(bytes).replace(&self.0.display().to_string(), "/pwd");
        Outcome {
            status: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Folders of a store are read-only. What is left is in the system's folder for temporary files.
        make_writable(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn make_writable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

impl Outcome {
    /// Its standard output, of a command that succeeded quietly.
    #[track_caller]
    pub fn quiet(&self) -> &str {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{self:?}");
        &self.out
    }

    /// The first line of its error, of a command that failed as it should.
    #[track_caller]
    pub fn error(&self) -> &str {
        assert_eq!((self.status, self.out.as_str()), (1, ""), "{self:?}");
        self.err.lines().next().unwrap_or_default()
    }
}
