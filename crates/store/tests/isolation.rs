//! What builders may try that are not on the machine's side, and what keeps them from it.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::{Lab, skip_unless_possible};
use nivis_store::build::{BuildMode, BuildRequest, BuildStatus, SandboxMode};
use nivis_store::{
    ContentAddress, ContentAddressMethod, DerivationOutput, Hash, HashAlgorithm, StorePath,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

const UMASK_ROOT: &str = "NIVIS_TEST_UMASK_ROOT";

/// The process that has another umask.
#[test]
fn builds_with_another_umask() {
    let Ok(root) = std::env::var(UMASK_ROOT) else {
        return;
    };
    let lab = Lab::at(&root);
    let drv = lab.shell("masked", &["out"], |drv| {
        drv.script("mkdir $out; umask > $out/umask; : > $out/file; cp -p $out/file $out/copy");
    });
    let report = lab.build(&[BuildRequest::all(drv)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(fs::read_to_string(out.join("umask")).unwrap(), "0022\n");
    let source = lab.dir().join("source");
    fs::write(&source, "fetched").unwrap();
    let report = lab.build(&[BuildRequest::all(lab.fetch("fetched", &source))]);
    lab.expect_success(&report);
    lab.verify();
}

/// Where groups are users' own, new files are writable for the group; others hide everything.
#[test]
fn the_callers_umask_does_not_matter() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    for umask in ["000", "002", "077"] {
        let root = lab.dir().join(umask);
        fs::create_dir(&root).unwrap();
        let run = Command::new("/bin/sh")
            .args([
                "-c",
                "umask $1; exec \"$2\" --exact builds_with_another_umask",
                "sh",
                umask,
            ])
            .arg(std::env::current_exe().unwrap())
            .env(UMASK_ROOT, &root)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{umask}: {}",
            String::from_utf8_lossy(&run.stdout)
        );
    }
}

/// The root of a sandbox is a folder of the machine. What the builder puts in the place of those that lead to the
/// outputs must lead nowhere else.
#[test]
fn outputs_are_not_looked_for_through_links() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    for (name, script) in [
        ("above", "mv /nix /old && ln -s TARGET /nix"),
        (
            "relative",
            "mv /nix /old && ln -s ../../../../../../../../../../../..TARGET /nix",
        ),
        (
            "store",
            "mv /nix/store /nix/old && ln -s TARGET/store /nix/store",
        ),
    ] {
        let target = lab.dir().join(name);
        fs::create_dir_all(target.join("store")).unwrap();
        let drv = lab.shell(name, &["out"], |drv| {
            drv.script(&script.replace("TARGET", target.to_str().unwrap()));
        });
        let out = lab.output(&drv, "out");
        let outside = target.join("store").join(out.base_name());
        fs::write(&outside, "outside").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        for keep_failed in [false, true] {
            let mut settings = lab.settings();
            settings.keep_failed = keep_failed;
            let request = BuildRequest::all(drv.clone());
            let report = lab.build_with(settings, &[request], BuildMode::Normal);
            assert!(!report.results[0].status.is_success(), "{name}");
            assert!(!lab.store.is_valid(&out).unwrap());
            assert!(!lab.store.real_path(&out).exists());
            assert_eq!(fs::read_to_string(&outside).unwrap(), "outside");
            let mode = fs::metadata(&outside).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn host_dependencies_lie_where_they_are_allowed() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let (allowed, secret) = (lab.dir().join("allowed"), lab.dir().join("secret"));
    fs::create_dir(&allowed).unwrap();
    fs::write(allowed.join("file"), "allowed").unwrap();
    fs::write(&secret, "secret").unwrap();
    let mut settings = lab.settings();
    settings.allowed_impure_host_deps = [allowed.clone()].into();
    let around = allowed.join("../secret");
    let drv = lab.shell("around", &["out"], |drv| {
        drv.env("__impureHostDeps", around.to_str().unwrap());
        drv.script(&format!("cat {} > $out", secret.display()));
    });
    let report = lab.build_with(
        settings.clone(),
        &[BuildRequest::all(drv)],
        BuildMode::Normal,
    );
    let message = &report.results[0].message;
    assert!(
        message.contains("was not in allowed-impure-host-deps"),
        "{message}"
    );
    let file = allowed.join("./x/../file");
    let drv = lab.shell("through", &["out"], |drv| {
        drv.env("__impureHostDeps", file.to_str().unwrap());
        drv.script(&format!("cat {}/file > $out", allowed.display()));
    });
    let report = lab.build_with(settings, &[BuildRequest::all(drv)], BuildMode::Normal);
    lab.expect_success(&report);
}

/// Two guesses that are each other's answer: each build would wait for the path that the other holds.
#[test]
fn hashes_that_were_swapped() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let texts = ["one\n", "two\n"];
    let requests: Vec<BuildRequest> = [(0, 1), (1, 0)]
        .into_iter()
        .map(|(own, said)| {
            BuildRequest::all(lab.shell("source", &[], |drv| {
                let hash = Hash::of(HashAlgorithm::Sha256, texts[said]);
                let content = ContentAddress {
                    method: ContentAddressMethod::Flat,
                    hash,
                };
                drv.0
                    .outputs
                    .insert("out".into(), DerivationOutput::CaFixed(content));
                drv.script(&format!("sleep 0.5; echo {} > $out", texts[own].trim()));
            }))
        })
        .collect();
    let mut settings = lab.settings();
    settings.keep_going = true;
    let builder = lab.builder(settings);
    let cancel = builder.cancel_handle();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let report = std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait
                .recv_timeout(std::time::Duration::from_secs(60))
                .is_err()
            {
                cancel.cancel();
            }
        });
        let report = builder.build(&requests, BuildMode::Normal);
        let _ = done.send(());
        report
    });
    for result in &report.results {
        assert_eq!(
            result.status,
            BuildStatus::HashMismatch,
            "{}",
            result.message
        );
    }
    lab.verify();
}

/// A path that is valid is there at any moment, also while it is repaired.
#[test]
fn what_is_repaired_is_never_missing() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let drv = lab.shell("damaged", &["out"], |drv| {
        drv.script("mkdir $out; echo good > $out/file");
    });
    lab.expect_success(&lab.build(&[BuildRequest::all(drv.clone())]));
    let real = lab.store.real_path(&lab.output(&drv, "out"));
    let file = real.join("file");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let missing = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut missing = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                missing += u64::from(fs::symlink_metadata(&file).is_err());
            }
            missing
        });
        for _ in 0..20 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&file, "damaged").unwrap();
            let request = [BuildRequest::all(drv.clone())];
            let report = lab.build_with(lab.settings(), &request, BuildMode::Repair);
            lab.expect_success(&report);
            assert_eq!(fs::read_to_string(&file).unwrap(), "good\n");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert_eq!(missing, 0);
    lab.verify();
}

/// Who builds as root is root to the files of `/proc/sys`, whatever the builder's number is in its namespace.
#[test]
fn the_kernels_settings_are_not_the_builders() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let file = "/proc/sys/vm/swappiness";
    if !Path::new(file).exists() {
        eprintln!("skipped: no {file}");
        return;
    }
    let drv = lab.shell("settings", &["out"], |drv| {
        drv.script(&format!(
            "value=$(cat {file}); if (echo $value > {file}) 2>/dev/null; then exit 9; fi; \
             test -d /proc/self; for trigger in /proc/sysrq-trigger; do test ! -w $trigger || exit 8; done; echo > $out"
        ));
    });
    lab.expect_success(&lab.build(&[BuildRequest::all(drv)]));
}

/// A group with a member, as builds of root's may run as.
fn group_with_members() -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let with_members = groups.lines().find(|line| !line.ends_with(':'))?;
    Some(with_members.split(':').next()?.to_owned())
}

/// Root's builds run as other users, who may read less than root. Builders inside nivis are no exception.
#[test]
fn builds_as_other_users() {
    let parent = Path::new("/var/cache");
    let group = group_with_members();
    let (true, true, Some(group)) = (nix::unistd::geteuid().is_root(), parent.exists(), group)
    else {
        eprintln!("skipped: needs root, /var/cache and a group with members");
        return;
    };
    let dir = tempfile::tempdir_in(parent).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::for_group(dir.path(), &group);
    for sandbox in [SandboxMode::Disabled, SandboxMode::Enabled] {
        let name = format!("{sandbox:?}");
        let mut settings = lab.settings();
        settings.build_users_group = group.clone();
        settings.sandbox = sandbox;
        let build = |drv: &StorePath| {
            let request = BuildRequest::all(drv.clone());
            lab.build_with(settings.clone(), &[request], BuildMode::Normal)
        };
        let shell = lab.shell(&format!("shell-{name}"), &["out"], |drv| {
            drv.script("mkdir $out; id -u > $out/uid; test -w /nix || test ! -w /etc/passwd; : > $TMP/file");
        });
        let report = build(&shell);
        if common::lacks_namespaces(&report.results[0].message) {
            eprintln!("skipped: {}", report.results[0].message);
            continue;
        }
        lab.expect_success(&report);
        let out = lab.store.real_path(&report.results[0].outputs["out"]);
        assert_ne!(fs::read_to_string(out.join("uid")).unwrap(), "0\n");
        assert_eq!(fs::metadata(out.join("uid")).unwrap().uid(), 0);

        let source = dir.path().join(format!("source-{name}"));
        fs::write(&source, &name).unwrap();
        let report = build(&lab.fetch(&format!("fetched-{name}"), &source));
        lab.expect_success(&report);
        let out = lab.store.real_path(&report.results[0].outputs["out"]);
        assert_eq!(fs::metadata(&out).unwrap().uid(), 0);
        let hidden = dir.path().join(format!("hidden-{name}"));
        fs::write(&hidden, format!("hidden {name}")).unwrap();
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
        let report = build(&lab.fetch(&format!("stolen-{name}"), &hidden));
        assert!(!report.results[0].status.is_success());
        assert!(
            lab.events().contains("Could not open file"),
            "{}",
            lab.events()
        );
    }
    lab.verify();
}
