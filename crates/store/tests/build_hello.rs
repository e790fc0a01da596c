//! GNU hello, from its upstream tarball, with this machine's shell and compiler through `sandbox-paths`: built,
//! overridden, run, built again and compared, rooted, unrooted and collected.
//!
//! The tarball is not part of the repository. Debian's source package `hello` holds it (`hello_2.10.orig.tar.gz`); it is
//! looked for where `NIVIS_HELLO_TARBALL` says, and in `/usr/src`.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::{Lab, skip_unless_possible};
use nivis_store::StorePath;
use nivis_store::build::{BuildMode, BuildRequest, BuildSettings, BuildStatus, SandboxPath};
use nivis_store::local::GcOptions;
use std::fs;
use std::path::{Path, PathBuf};

fn tarball() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NIVIS_HELLO_TARBALL") {
        return Some(path.into());
    }
    let entries = fs::read_dir("/usr/src").ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.starts_with("hello_") || name.starts_with("hello-")) && name.ends_with(".tar.gz")
    })
}

fn settings(lab: &Lab) -> BuildSettings {
    let mut settings = lab.settings();
    // `awk` and others are links there.
    let (target, path) = SandboxPath::parse("/etc/alternatives?");
    settings.sandbox_paths.insert(target, path);
    settings
}

/// The package, with another name for its program if wanted.
fn hello(lab: &Lab, source: &StorePath, name: &str, flags: &str) -> StorePath {
    lab.shell(name, &["out"], |drv| {
        drv.input(source, &["out"]);
        drv.env("src", &lab.print(&lab.output(source, "out")));
        drv.env("flags", flags);
        drv.script(
            "set -e; tar xzf $src; cd hello-*; ./configure --prefix=$out $flags; \
             make -j$NIX_BUILD_CORES; make install; rm -f $out/share/info/dir",
        );
    })
}

#[test]
fn from_tarball_to_garbage() {
    let Some(tarball) = tarball() else {
        eprintln!("skipped: no tarball of GNU hello (set NIVIS_HELLO_TARBALL)");
        return;
    };
    for tool in ["gcc", "make", "tar", "gzip", "sed", "awk"] {
        if !Path::new("/usr/bin").join(tool).exists() && !Path::new("/bin").join(tool).exists() {
            eprintln!("skipped: no {tool} in /usr/bin");
            return;
        }
    }
    if skip_unless_possible().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let open = || Lab::at(root.to_str().unwrap());
    let link = root.join("result");

    let lab = open();
    let source = lab.fetch("hello.tar.gz", tarball.as_ref());
    let plain = hello(&lab, &source, "hello", "");
    let wow = hello(
        &lab,
        &source,
        "wow",
        "--program-transform-name=s/hello/wow/",
    );
    let plain_out = lab.output(&plain, "out");
    let run = lab.shell("greeting", &["out"], |drv| {
        drv.input(&plain, &["out"]);
        drv.input(&wow, &["out"]);
        let (a, b) = (lab.print(&plain_out), lab.print(&lab.output(&wow, "out")));
        drv.script(&format!("{{ {a}/bin/hello; {b}/bin/wow -g wow; }} > $out"));
    });
    let report = lab.build_with(settings(&lab), &[BuildRequest::all(run)], BuildMode::Normal);
    lab.expect_success(&report);
    let greeting = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(
        fs::read_to_string(greeting).unwrap(),
        "Hello, world!\nwow\n"
    );

    let request = [BuildRequest::all(plain.clone())];
    let report = lab.build_with(settings(&lab), &request, BuildMode::Check);
    lab.expect_success(&report);
    assert_eq!(report.results[0].status, BuildStatus::Built);
    lab.verify();

    // Roots of a process end with it, so the store is opened anew.
    lab.store.add_perm_root(&plain_out, &link).unwrap();
    drop(lab);
    let lab = open();
    lab.store.collect_garbage(&GcOptions::default()).unwrap();
    assert!(lab.store.is_valid(&plain_out).unwrap());
    lab.verify();
    fs::remove_file(&link).unwrap();
    lab.store.collect_garbage(&GcOptions::default()).unwrap();
    assert!(!lab.store.is_valid(&plain_out).unwrap());
    assert!(!lab.store.real_path(&plain_out).exists());
    lab.verify();
}
