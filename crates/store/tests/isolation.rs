//! What builders may try that are not on the machine's side, and what keeps them from it: with namespaces, without, and
//! without a sandbox.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::{Lab, skip_unless_possible};
use nivis_store::build::{
    BuildMode, BuildRequest, BuildSettings, BuildStatus, SandboxMode, SandboxPath,
};
use nivis_store::{
    ContentAddress, ContentAddressMethod, DerivationOutput, Hash, HashAlgorithm, StorePath,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

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
            if wait.recv_timeout(Duration::from_secs(60)).is_err() {
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

/// Files of the machine that sandboxes show, and what else of it they are made of. Root's builders are root to them.
#[test]
fn what_is_roots_stays_as_it_is() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, whose files these are");
        return;
    }
    let mut settings = lab.settings();
    for (name, mode) in [("own", 0o755), ("own/shared", 0o777), ("shared", 0o777)] {
        let dir = lab.dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(dir.join("file"), "before").unwrap();
        let shown = format!("/shown/{name}={}", dir.display());
        let (target, path) = SandboxPath::parse(&shown);
        settings.sandbox_paths.insert(target, path);
    }
    let drv = lab.shell("writes", &["out"], |drv| {
        drv.script(
            "for dir in own own/shared shared; do echo after > /shown/$dir/file; done 2>/dev/null; \
             if chmod 666 /dev/null 2>/dev/null; then exit 9; fi; echo something > /dev/null; echo > $out",
        );
    });
    let report = lab.build_with(settings, &[BuildRequest::all(drv)], BuildMode::Normal);
    lab.expect_success(&report);
    let read = |name: &str| fs::read_to_string(lab.dir().join(name).join("file")).unwrap();
    assert_eq!(read("own"), "before");
    assert_eq!(read("own/shared"), "after\n");
    assert_eq!(read("shared"), "after\n");
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
        fs::set_permissions(&source, fs::Permissions::from_mode(0o644)).unwrap();
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

#[test]
fn hostile_builders() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    // Leaves processes behind that hold its terminal, writes to inputs, makes set-user-id files, looks around.
    let input = lab.shell("input", &["out"], |drv| {
        drv.script("mkdir $out; echo original > $out/file");
    });
    let input_out = lab.print(&lab.output(&input, "out"));
    let secret = lab.dir().join("secret");
    fs::write(&secret, "secret").unwrap();
    let hostile = lab.shell("hostile", &["out"], |drv| {
        drv.input(&input, &["out"]);
        drv.script(&format!(
            "(sleep 1000 &) ; (setsid sleep 1000 & ) ; \
             chmod u+w {input_out} {input_out}/file; echo changed > {input_out}/file; rm -rf {input_out}; \
             cat {} && exit 9; echo > /nix/store/stray; \
             echo x > $out; chmod 6755 $out; true",
            secret.display()
        ));
    });
    let start = Instant::now();
    let report = lab.build(&[BuildRequest::all(hostile)]);
    lab.expect_success(&report);
    assert!(start.elapsed() < Duration::from_secs(200));
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    let mode = fs::symlink_metadata(out).unwrap().permissions().mode();
    assert_eq!(mode & 0o6000, 0);
    assert!(!lab.dir().join("nix/store/stray").exists());
    lab.verify();

    // The network: an address that would answer on the machine itself does not in the sandbox.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = lab.shell("network", &["out"], |drv| {
        drv.env("PATH", "/bin:/usr/bin");
        drv.script(&format!(
            "if command -v bash >/dev/null && bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null; \
             then echo reached > $out; else echo unreachable > $out; fi"
        ));
    });
    let report = lab.build(&[BuildRequest::all(network)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(fs::read_to_string(out).unwrap(), "unreachable\n");
}

#[test]
fn floods_and_silence() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let flood = lab.shell("flood", &["out"], |drv| {
        drv.script("while :; do echo some text that is printed again and again; done");
    });
    let mut settings = lab.settings();
    settings.max_log_size = Some(100_000);
    let report = lab.build_with(settings, &[BuildRequest::all(flood)], BuildMode::Normal);
    assert_eq!(report.results[0].status, BuildStatus::LogLimitExceeded);
    assert!(
        report.results[0]
            .message
            .contains("killed after writing more than 100000 bytes")
    );

    let silent = lab.shell("silent", &["out"], |drv| {
        drv.env("PATH", "/bin:/usr/bin");
        drv.script("echo begin; sleep 1000; echo > $out");
    });
    for long in [false, true] {
        let mut settings = lab.settings();
        let limit = Some(Duration::from_secs(1));
        match long {
            true => settings.timeout = limit,
            false => settings.max_silent_time = limit,
        }
        let request = [BuildRequest::all(silent.clone())];
        let report = lab.build_with(settings, &request, BuildMode::Normal);
        assert_eq!(report.results[0].status, BuildStatus::TimedOut);
        assert_eq!(report.results[0].message, "timed out after 1 seconds");
        assert_eq!(report.failures.exit_status(), 101);
    }
    // Cancelled from another thread.
    let builder = lab.builder(lab.settings());
    let handle = builder.cancel_handle();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            handle.cancel();
        });
        let report = builder.build(&[BuildRequest::all(silent)], BuildMode::Normal);
        assert_eq!(report.results[0].status, BuildStatus::Cancelled);
    });
    assert!(start.elapsed() < Duration::from_secs(100));
    lab.verify();
}

#[test]
fn without_sandbox() {
    // A store that lies where its paths say, so that nothing has to be shown elsewhere.
    let lab = Lab::in_place();
    let mut settings = lab.settings();
    settings.sandbox = SandboxMode::Disabled;
    if !std::path::Path::new("/bin/sh").exists() {
        eprintln!("skipped: no /bin/sh");
        return;
    }
    if std::path::Path::new("/homeless-shelter").exists() {
        eprintln!("skipped: /homeless-shelter exists");
        return;
    }
    let drv = lab.make_and_add("plain", &["out"], |drv| {
        drv.0.builder = "/bin/sh".into();
        drv.script("mkdir $out; echo $out > $out/self");
        drv.env("PATH", "/bin:/usr/bin");
    });
    let request = [BuildRequest::all(drv.clone())];
    let report = lab.build_with(settings.clone(), &request, BuildMode::Normal);
    lab.expect_success(&report);
    // Built elsewhere and rewritten, it is the same.
    let report = lab.build_with(settings.clone(), &request, BuildMode::Check);
    lab.expect_success(&report);
    hostile_in_place(&lab, &settings);
}

/// What builders may try where there is no sandbox: nothing outlives them, nothing harms the store.
fn hostile_in_place(lab: &Lab, settings: &BuildSettings) {
    let make = |name: &str, script: &str| {
        let drv = lab.make_and_add(name, &["out"], |drv| {
            drv.0.builder = "/bin/sh".into();
            drv.env("PATH", "/bin:/usr/bin");
            drv.script(script);
        });
        [BuildRequest::all(drv)]
    };
    let build = |settings: &BuildSettings, request: &[BuildRequest]| {
        let mut report = lab.build_with(settings.clone(), request, BuildMode::Normal);
        report.results.remove(0)
    };
    // Whatever forks away ends with its builder, however it hides and however the builder ends.
    let alive = lab.dir().join("alive");
    let stray = format!("sleep 2; echo > {}", alive.display());
    let fork = format!(
        "(setsid sh -c '{stray}' >/dev/null 2>&1 &); \
         (cd /; setsid env -i sh -c '(setsid sh -c \"PATH=$PATH; {stray}\" &)' >/dev/null 2>&1 </dev/null &); "
    );
    let result = build(
        settings,
        &make("forks", &format!("{fork} echo > $out; sleep 0.2")),
    );
    assert_eq!(result.status, BuildStatus::Built, "{}", result.message);
    let result = build(
        settings,
        &make("fails", &format!("{fork} sleep 0.2; exit 3")),
    );
    assert!(
        result.message.contains("builder failed with exit code 3"),
        "{}",
        result.message
    );
    let result = build(
        settings,
        &make("dies", &format!("{fork} sleep 0.2; kill -TERM $$")),
    );
    assert!(
        result
            .message
            .contains("builder failed due to signal 15 (Terminated)"),
        "{}",
        result.message
    );
    let mut limited = settings.clone();
    limited.timeout = Some(Duration::from_secs(1));
    let result = build(&limited, &make("slow", &format!("{fork} sleep 100")));
    assert_eq!(result.message, "timed out after 1 seconds");
    let mut limited = settings.clone();
    limited.max_log_size = Some(100_000);
    let flood = "while :; do echo some text that is printed again and again; done";
    let result = build(&limited, &make("flood", &format!("{fork} {flood}")));
    assert_eq!(result.status, BuildStatus::LogLimitExceeded);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!alive.exists());
    let quiet = "echo > $out; exec >&- 2>&-; sleep 0.1; exec sleep 0";
    let result = build(settings, &make("quiet", quiet));
    assert_eq!(result.status, BuildStatus::Built, "{}", result.message);
    // Set-user-id files.
    let result = build(
        settings,
        &make(
            "setid",
            "mkdir $out; echo x > $out/x; chmod 6755 $out/x; true",
        ),
    );
    assert_eq!(result.status, BuildStatus::Built, "{}", result.message);
    let out = lab.store.real_path(&result.outputs["out"]);
    let mode = |path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(out.join("x")) & 0o6222, 0);
    assert_eq!(mode(out), 0o555);
    lab.verify();
}

const CONFINED: &str = "NIVIS_TEST_CONFINED";

/// The process that may not make user namespaces.
#[test]
fn confined() {
    if std::env::var(CONFINED).is_err() {
        return;
    }
    let lab = Lab::in_place();
    let mut settings = lab.settings();
    settings.sandbox = SandboxMode::Enabled;
    settings.sandbox_fallback = false;
    let plain = lab.make_and_add("plain", &["out"], |drv| drv.script("echo > $out"));
    let request = [BuildRequest::all(plain)];
    let refused = |lab: &Lab, settings: &BuildSettings, request: &[BuildRequest]| {
        let report = lab.build_with(settings.clone(), request, BuildMode::Normal);
        let message = &report.results[0].message;
        assert!(common::lacks_namespaces(message), "{message}");
        lab.verify();
    };
    refused(&lab, &settings, &request);
    settings.sandbox_fallback = true;
    let report = lab.build_with(settings.clone(), &request, BuildMode::Normal);
    lab.expect_success(&report);
    hostile_in_place(&lab, &settings);
    // A store whose files are elsewhere cannot do without.
    let lab = Lab::new();
    let plain = lab.make_and_add("plain", &["out"], |drv| drv.script("echo > $out"));
    refused(&lab, &settings, &[BuildRequest::all(plain)]);
}

#[test]
fn without_namespaces() {
    use nix::sched::{CloneFlags, unshare};
    use std::os::unix::process::CommandExt;
    if !std::path::Path::new("/bin/sh").exists()
        || std::path::Path::new("/homeless-shelter").exists()
    {
        eprintln!("skipped: no /bin/sh, or /homeless-shelter exists");
        return;
    }
    let maps = common::IdMaps::new();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "confined", "--nocapture"])
        .env(CONFINED, "1");
    // SAFETY: nothing but system calls with prepared arguments happens between the fork and the execution.
    unsafe {
        command.pre_exec(move || {
            // Where there are none anyway, nothing has to be taken away.
            if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
                maps.write()?;
                common::put(c"/proc/sys/user/max_user_namespaces", "0")?;
            }
            Ok(())
        });
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => {
            eprintln!("skipped: namespaces cannot be switched off: {e}");
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
