//! A store to build in, and derivations for it.

#![allow(dead_code, reason = "not all tests use everything")]

use nivis_store::build::{
    BuildMode, BuildReport, BuildRequest, BuildSettings, Builder, Event, Observer, SandboxPath,
    open_log,
};
use nivis_store::local::{LocalStore, StoreConfig, VerifyOptions};
use nivis_store::{
    ContentAddress, ContentAddressMethod, Derivation, DerivationOutput, Hash, HashAlgorithm,
    StoreDir, StorePath,
};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Keeps all events as text.
#[derive(Default)]
struct Recorder(Mutex<String>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push_str(&format!("{event:?}\n"));
    }
}

/// Maps of users and groups for a user namespace in which everything keeps its number.
pub struct IdMaps([(&'static std::ffi::CStr, String); 3]);

impl IdMaps {
    pub fn new() -> IdMaps {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        IdMaps([
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/uid_map", format!("{uid} {uid} 1")),
            (c"/proc/self/gid_map", format!("{gid} {gid} 1")),
        ])
    }

    /// Makes them those of this process. Nothing but system calls.
    pub fn write(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|(file, text)| put(file, text))
    }
}

/// Writes to a file that is there. Nothing but system calls.
pub fn put(file: &std::ffi::CStr, text: &str) -> std::io::Result<()> {
    use nix::fcntl::{OFlag, open};
    let file = open(file, OFlag::O_WRONLY, nix::sys::stat::Mode::empty())?;
    nix::unistd::write(&file, text.as_bytes())?;
    Ok(())
}

pub struct Lab {
    // Dropped first.
    pub store: Arc<LocalStore>,
    recorder: Arc<Recorder>,
    dir: Dir,
}

enum Dir {
    Own(tempfile::TempDir),
    Others(std::path::PathBuf),
}

/// A derivation under construction.
pub struct Drv(pub Derivation);

impl Drv {
    pub fn env(&mut self, name: &str, value: &str) {
        self.0.env.insert(name.into(), value.into());
    }

    pub fn script(&mut self, script: &str) {
        self.0.args = vec!["-c".into(), script.into()];
    }

    pub fn input(&mut self, drv: &StorePath, outputs: &[&str]) {
        let outputs = outputs.iter().copied().collect();
        self.0.input_drvs.insert(drv.clone(), outputs);
    }
}

/// Whether a failure is the machine's.
pub fn lacks_namespaces(message: &str) -> bool {
    message.contains("does not support the kernel namespaces")
        || message.contains("user namespaces are not enabled")
}

/// A store below a temporary folder, if this machine can isolate builds and has a shell to build with.
pub fn skip_unless_possible() -> Option<Lab> {
    if !Path::new("/bin/sh").exists() {
        eprintln!("skipped: no /bin/sh");
        return None;
    }
    let lab = Lab::new();
    let probe = lab.shell("probe", &["out"], |drv| drv.script("echo > $out"));
    let report = lab.build(&[BuildRequest::all(probe)]);
    if lacks_namespaces(&report.results[0].message) {
        eprintln!("skipped: {}", report.results[0].message);
        return None;
    }
    lab.expect_success(&report);
    Some(lab)
}

impl Lab {
    /// A store whose paths begin with `/nix/store` and whose files are elsewhere.
    pub fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        Lab::open(dir, StoreConfig::at_root(StoreDir::default(), root))
    }

    /// A store that lies where its paths say.
    pub fn in_place() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        Lab::open(dir, Lab::config_in_place(&root))
    }

    fn config_in_place(root: &Path) -> StoreConfig {
        let store_dir = StoreDir::new(root.join("store").to_str().unwrap()).unwrap();
        let mut config = StoreConfig::at_dirs(store_dir, root.join("state"));
        config.log_dir = root.join("log");
        config
    }

    /// As [`Lab::in_place`], in a folder that somebody else made.
    pub fn at_in_place(root: &str) -> Lab {
        let root = Path::new(root);
        Lab {
            store: LocalStore::open(Lab::config_in_place(root)).unwrap(),
            recorder: Arc::default(),
            dir: Dir::Others(root.into()),
        }
    }

    /// As [`Lab::at_in_place`], where a group's members may build.
    pub fn for_group(root: &Path, group: &str) -> Lab {
        let mut config = Lab::config_in_place(root);
        config.settings.build_users_group = group.into();
        Lab {
            store: LocalStore::open(config).unwrap(),
            recorder: Arc::default(),
            dir: Dir::Others(root.into()),
        }
    }

    /// As [`Lab::new`], in a folder that somebody else made.
    pub fn at(root: &str) -> Lab {
        Lab {
            store: LocalStore::open(StoreConfig::at_root(StoreDir::default(), root)).unwrap(),
            recorder: Arc::default(),
            dir: Dir::Others(root.into()),
        }
    }

    fn open(dir: tempfile::TempDir, config: StoreConfig) -> Lab {
        Lab {
            store: LocalStore::open(config).unwrap(),
            recorder: Arc::default(),
            dir: Dir::Own(dir),
        }
    }

    pub fn dir(&self) -> std::path::PathBuf {
        match &self.dir {
            Dir::Own(dir) => dir.path().canonicalize().unwrap(),
            Dir::Others(dir) => dir.clone(),
        }
    }

    pub fn settings(&self) -> BuildSettings {
        let mut settings = BuildSettings {
            max_jobs: 2,
            cores: 3,
            system: "x86_64-linux".into(),
            ..BuildSettings::default()
        };
        for dir in ["/bin?", "/lib?", "/lib64?", "/usr?"] {
            let (target, path) = SandboxPath::parse(dir);
            settings.sandbox_paths.insert(target, path);
        }
        settings
    }

    pub fn builder(&self, settings: BuildSettings) -> Builder {
        Builder::new(self.store.clone(), settings, self.recorder.clone())
    }

    pub fn build(&self, requests: &[BuildRequest]) -> BuildReport {
        self.build_with(self.settings(), requests, BuildMode::Normal)
    }

    pub fn build_with(
        &self,
        settings: BuildSettings,
        requests: &[BuildRequest],
        mode: BuildMode,
    ) -> BuildReport {
        self.builder(settings).build(requests, mode)
    }

    pub fn expect_success(&self, report: &BuildReport) {
        for result in &report.results {
            assert!(
                result.status.is_success(),
                "{:?}: {}\n{}",
                result.status,
                result.message,
                self.events()
            );
        }
    }

    pub fn events(&self) -> String {
        self.recorder.0.lock().unwrap().clone()
    }

    pub fn make(&self, name: &str, outputs: &[&str], fill: impl FnOnce(&mut Drv)) -> Derivation {
        let mut drv = Drv(Derivation::new(name));
        drv.0.platform = "x86_64-linux".into();
        drv.0.builder = "/bin/sh".into();
        for output in outputs {
            drv.0
                .outputs
                .insert((*output).into(), DerivationOutput::Deferred);
        }
        fill(&mut drv);
        if drv.0.structured_attrs.is_none() {
            drv.env("name", name);
        }
        let store = self.store.clone();
        let mut memo = nivis_store::DrvHashMemo::new();
        let mut hashes = nivis_store::derivation::LoadingHashes::new(
            &mut memo,
            self.store.store_dir(),
            move |path| store.read_derivation(path),
        );
        drv.0.finish(self.store.store_dir(), &mut hashes).unwrap();
        drv.0
    }

    pub fn make_and_add(
        &self,
        name: &str,
        outputs: &[&str],
        fill: impl FnOnce(&mut Drv),
    ) -> StorePath {
        let drv = self.make(name, outputs, fill);
        self.store.add_derivation(&drv).unwrap()
    }

    /// A derivation that fetches a file of this machine, by its hash; its path.
    pub fn fetch(&self, name: &str, file: &Path) -> StorePath {
        let contents = std::fs::read(file).unwrap();
        self.fetch_url(name, &format!("file://{}", file.display()), &contents)
    }

    /// A derivation that fetches what a URL is expected to give; its path.
    pub fn fetch_url(&self, name: &str, url: &str, contents: &[u8]) -> StorePath {
        self.make_and_add(name, &[], |drv| {
            drv.0.builder = "builtin:fetchurl".into();
            drv.0.platform = "builtin".into();
            drv.0.outputs.insert(
                "out".into(),
                DerivationOutput::CaFixed(ContentAddress {
                    method: ContentAddressMethod::Flat,
                    hash: Hash::of(HashAlgorithm::Sha256, contents),
                }),
            );
            drv.env("url", url);
        })
    }

    /// A derivation built by a shell; its path.
    pub fn shell(&self, name: &str, outputs: &[&str], fill: impl FnOnce(&mut Drv)) -> StorePath {
        self.make_and_add(name, outputs, |drv| {
            fill(drv);
            // What scripts use besides the shell's own commands.
            let path = "export PATH=/bin:/usr/bin; ";
            let keeps_path = name == "environment";
            if let Some(script) = drv.0.args.get_mut(1)
                && !keeps_path
            {
                *script = format!("{path}{script}").into();
            }
        })
    }

    pub fn output(&self, drv: &StorePath, output: &str) -> StorePath {
        let outputs = self.store.query_output_map(drv).unwrap();
        outputs[output].clone().unwrap()
    }

    pub fn print(&self, path: &StorePath) -> String {
        self.store.print(path)
    }

    pub fn log(&self, drv: &StorePath) -> String {
        let mut text = String::new();
        open_log(&self.store, drv)
            .unwrap()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    /// Everything in the store is as it should be, and nothing is left over.
    pub fn verify(&self) {
        let options = VerifyOptions {
            check_contents: true,
            ..VerifyOptions::default()
        };
        let report = self.store.verify(&options, None).unwrap();
        assert!(report.ok(), "{report:?}\n{}", self.events());
        for entry in std::fs::read_dir(&self.store.config().real_store_dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".chroot"), "{name} is left");
        }
        if let Ok(mut builds) = std::fs::read_dir(self.store.config().state_dir.join("builds")) {
            assert!(builds.next().is_none());
        }
    }
}
