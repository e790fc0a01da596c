//! Builds that are killed at any moment: the store stays sound, and the next run goes on.
//!
//! The process to be killed is this test itself, started again. `ROUNDS=1000 cargo test -p nivis-store --test build_faults`
//! runs as many rounds.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::{Lab, skip_unless_possible};
use nivis_store::StoreDir;
use nivis_store::build::{BuildMode, BuildRequest, BuildSettings, SandboxMode};
use nivis_store::local::{LocalStore, StoreConfig, VerifyOptions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = "NIVIS_TEST_FAULTS_ROOT";
const SEED: &str = "NIVIS_TEST_FAULTS_SEED";

/// What is built: a chain, so that some of it is there when the rest is not.
fn requests(lab: &Lab, seed: &str) -> Vec<BuildRequest> {
    let mut before = None;
    (0..6)
        .map(|i| {
            let drv = lab.shell(&format!("link-{seed}-{i}"), &["out", "dev"], |drv| {
                if let Some(before) = &before {
                    drv.input(before, &["out"]);
                }
                drv.script("mkdir $out; for i in 1 2 3; do echo $dev > $out/$i; done; echo > $dev; (sleep 100 &)");
            });
            before = Some(drv.clone());
            BuildRequest::all(drv)
        })
        .collect()
}

/// The process that is killed.
#[test]
fn victim() {
    let (Ok(root), Ok(seed)) = (std::env::var(ROOT), std::env::var(SEED)) else {
        return;
    };
    let lab = Lab::at(&root);
    let report = lab.build(&requests(&lab, &seed));
    lab.expect_success(&report);
}

const UNCONFINED: &str = "NIVIS_TEST_FAULTS_UNCONFINED";

/// What it builds without a sandbox: processes that hide from whoever looks for them, in `sleep`s of a length that nobody
/// else has.
fn unconfined_request(lab: &Lab, seed: &str) -> (String, BuildRequest) {
    let length = format!("977.{}", std::process::id());
    let length = std::env::var(UNCONFINED).unwrap_or(length);
    let hide = format!(
        "(cd /; setsid env -i /bin/sh -c '(setsid $0 {length} &)' $(command -v sleep) >/dev/null 2>&1 </dev/null &)"
    );
    let drv = lab.make_and_add(&format!("hiding-{seed}"), &["out"], |drv| {
        drv.env("PATH", "/bin:/usr/bin");
        drv.script(&format!(
            "{hide}; {hide}; mkdir $out; for i in 1 2 3; do sleep 0.05; {hide}; done; (sleep {length} &)"
        ));
    });
    (length, BuildRequest::all(drv))
}

fn unconfined(lab: &Lab) -> BuildSettings {
    let mut settings = lab.settings();
    settings.sandbox = SandboxMode::Disabled;
    settings
}

/// The process that is killed while it builds without a sandbox.
#[test]
fn unconfined_victim() {
    let (Ok(root), Ok(seed)) = (std::env::var(ROOT), std::env::var(SEED)) else {
        return;
    };
    let lab = Lab::at_in_place(&root);
    let (_, request) = unconfined_request(&lab, &seed);
    let report = lab.build_with(unconfined(&lab), &[request], BuildMode::Normal);
    lab.expect_success(&report);
}

/// Processes among whose arguments is this one.
fn processes_with(argument: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|b| *b == 0)
                .any(|word| word == argument.as_bytes())
        })
        .count()
}

/// Starts this test again as a victim, prepared by `prepare`, and kills it after at most so many milliseconds; in as many
/// rounds as `ROUNDS` says. After each, `check` looks what has become of it.
fn kill_victims(
    victim: &str,
    rounds: u64,
    longest: u64,
    prepare: impl Fn(u64, &mut Command),
    check: impl Fn(u64),
) {
    let rounds = std::env::var("ROUNDS").map_or(rounds, |n| n.parse().unwrap());
    let itself = std::env::current_exe().unwrap();
    let mut random = u64::from(std::process::id());
    for round in 0..rounds {
        let mut command = Command::new(&itself);
        command
            .args(["--exact", victim])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        prepare(round, &mut command);
        let mut child = command.spawn().unwrap();
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_millis((random >> 33) % longest));
        child.kill().unwrap();
        child.wait().unwrap();
        check(round);
    }
}

fn sound(store: &LocalStore, round: u64) {
    let options = VerifyOptions {
        check_contents: true,
        ..Default::default()
    };
    let report = store.verify(&options, None).unwrap();
    assert!(report.ok(), "round {round}: {report:?}");
}

/// Kills processes that build without a sandbox.
fn kill_unconfined(prepare: impl Fn(&mut Command)) {
    if !std::path::Path::new("/bin/sh").exists()
        || std::path::Path::new("/homeless-shelter").exists()
    {
        eprintln!("skipped: no /bin/sh, or /homeless-shelter exists");
        return;
    }
    let lab = Lab::in_place();
    let prepare = |round: u64, command: &mut Command| {
        let (length, _) = unconfined_request(&lab, &round.to_string());
        command.env(ROOT, lab.dir()).env(SEED, round.to_string());
        command.env(UNCONFINED, length);
        prepare(command);
    };
    kill_victims("unconfined_victim", 4, 300, prepare, |round| {
        let (length, request) = unconfined_request(&lab, &round.to_string());
        // Nothing that the builder has started outlives that for long.
        until(|| processes_with(&length) == 0);
        let report = lab.build_with(unconfined(&lab), &[request], BuildMode::Normal);
        lab.expect_success(&report);
        assert_eq!(processes_with(&length), 0, "round {round}");
        sound(&lab.store, round);
    });
}

#[test]
fn killed_without_a_sandbox() {
    kill_unconfined(|_| {});
}

/// Refuses some system calls, as containers do whose lists of calls are strict, or old.
#[cfg(target_arch = "x86_64")]
fn refuse(calls: &[libc::c_long]) -> std::io::Result<()> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // Room for five calls; on the stack, for this runs in a process that was just split off.
    let mut filter = [statement(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW); 12];
    filter[0] = statement(load, 0, 0, 0);
    for (i, call) in calls.iter().enumerate() {
        filter[1 + 2 * i] = statement(equal, 0, 1, *call as u32);
        filter[2 + 2 * i] = statement(libc::BPF_RET, 0, 0, refused);
    }
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: plain system calls; the program outlives them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0u64, 0u64) == 0
    };
    match done {
        true => Ok(()),
        false => Err(std::io::Error::last_os_error()),
    }
}

/// The process that is killed while its builder waits for something that does not happen.
#[test]
fn waiting_victim() {
    let (Ok(root), Ok(length)) = (std::env::var(ROOT), std::env::var(UNCONFINED)) else {
        return;
    };
    let lab = Lab::at_in_place(&root);
    let drv = lab.shell("waiting", &["out"], |drv| {
        drv.script(&format!("sleep {length}"));
    });
    lab.build_with(
        unconfined(&lab),
        &[BuildRequest::all(drv)],
        BuildMode::Normal,
    );
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Without what newer kernels have, or containers refuse.
#[cfg(target_arch = "x86_64")]
#[test]
fn killed_where_little_is_allowed() {
    use std::os::unix::process::CommandExt;
    if std::path::Path::new("/homeless-shelter").exists() {
        eprintln!("skipped: /homeless-shelter exists");
        return;
    }
    const REFUSED: [libc::c_long; 5] = [
        libc::SYS_personality,
        libc::SYS_close_range,
        libc::SYS_pidfd_open,
        libc::SYS_landlock_create_ruleset,
        libc::SYS_signalfd4,
    ];
    let lab = Lab::in_place();
    let command = |victim: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", victim]);
        command.env(ROOT, lab.dir()).env(SEED, "0");
        // SAFETY: nothing but system calls.
        unsafe { command.pre_exec(|| refuse(&REFUSED)) };
        command
    };
    let run = command("unconfined_victim").output().unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stdout)
    );
    let length = format!("978.{}", std::process::id());
    let mut waiting = command("waiting_victim");
    waiting.env(UNCONFINED, &length).stdout(Stdio::null());
    let mut waiting = waiting.spawn().unwrap();
    until(|| processes_with(&length) > 0);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    until(|| processes_with(&length) == 0);
    // SAFETY: nothing but system calls.
    kill_unconfined(|command| unsafe {
        command.pre_exec(|| refuse(&REFUSED));
    });
}

#[test]
fn killed_at_any_moment() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    // Several attempts at the same builds.
    let seed = |round: u64| (round / 4).to_string();
    let prepare = |round, command: &mut Command| {
        command.env(ROOT, lab.dir()).env(SEED, seed(round));
    };
    kill_victims("victim", 8, 250, prepare, |round| {
        // Another process looks at it.
        let config = StoreConfig::at_root(StoreDir::default(), lab.dir());
        sound(&LocalStore::open(config).unwrap(), round);
        if round % 4 == 3 {
            // As another process would, which removes what was left behind.
            let lab = Lab::at(lab.dir().to_str().unwrap());
            let report = lab.build(&requests(&lab, &seed(round)));
            lab.expect_success(&report);
            let last = lab.shell(&format!("last-{round}"), &["out"], |drv| {
                drv.script("echo > $out");
            });
            lab.expect_success(&lab.build(&[BuildRequest::all(last)]));
            // Folders that builds have left behind are gone; those in the store are a collector's business.
            let builds = std::fs::read_dir(lab.dir().join("nix/var/nix/builds")).unwrap();
            let left: Vec<_> = builds.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    });
}

/// The process that is killed while it repairs.
#[test]
fn repairing_victim() {
    let (Ok(root), Ok(seed)) = (std::env::var(ROOT), std::env::var(SEED)) else {
        return;
    };
    let lab = Lab::at(&root);
    let report = lab.build_with(lab.settings(), &requests(&lab, &seed), BuildMode::Repair);
    lab.expect_success(&report);
}

#[test]
fn killed_while_repairing() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let requests = requests(&lab, "repaired");
    lab.expect_success(&lab.build(&requests));
    let damaged: Vec<_> = lab
        .store
        .query_all_valid()
        .unwrap()
        .into_iter()
        .map(|path| lab.store.real_path(&path).join("1"))
        .filter(|file| file.exists())
        .collect();
    assert_eq!(damaged.len(), 6);
    let prepare = |_, command: &mut Command| {
        for file in &damaged {
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(file, mode).unwrap();
            std::fs::write(file, "damaged").unwrap();
        }
        command.env(ROOT, lab.dir()).env(SEED, "repaired");
    };
    kill_victims("repairing_victim", 6, 400, prepare, |round| {
        for file in &damaged {
            assert!(file.exists(), "round {round}: {}", file.display());
        }
        let report = lab.build_with(lab.settings(), &requests, BuildMode::Repair);
        lab.expect_success(&report);
        sound(&lab.store, round);
    });
}
