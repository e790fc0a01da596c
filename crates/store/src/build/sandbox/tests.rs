use super::*;
use crate::build::settings::SandboxPath;
use std::collections::BTreeMap;
use std::io::Read;

fn sh() -> Option<BTreeMap<PathBuf, SandboxPath>> {
    if supported() != Support::Full {
        eprintln!("skipped: this machine has no namespaces for a sandbox");
        return None;
    }
    let mut paths = BTreeMap::new();
    for dir in ["/bin", "/lib", "/lib64", "/usr"] {
        let (target, path) = SandboxPath::parse(&format!("{dir}?"));
        paths.insert(target, path);
    }
    if !Path::new("/bin/sh").exists() {
        eprintln!("skipped: no /bin/sh");
        return None;
    }
    Some(paths)
}

/// Runs a shell script in a sandbox; its output and status.
fn run(script: &str, network: bool) -> Option<(String, ExitStatus)> {
    let paths = sh()?;
    let dir = tempfile::tempdir().unwrap();
    let (root, build) = (dir.path().join("root"), dir.path().join("build"));
    let input = dir.path().join("input");
    for path in [&root, &build, &input] {
        fs::create_dir(path).unwrap();
    }
    fs::write(input.join("file"), "contents").unwrap();
    let settings = BuildSettings::default();
    let launch_spec = Launch {
        settings: &settings,
        view: Some(View {
            root: root.clone(),
            store_dir: "/nix/store".into(),
            inputs: vec![("input".into(), input)],
            paths,
        }),
        user_namespace: true,
        network,
        user: None,
        build_dir: &build,
        build_dir_inside: Path::new("/build"),
        platform: b"x86_64-linux",
        program: b"/bin/sh".to_vec(),
        args: vec![b"sh".to_vec(), b"-c".to_vec(), script.into()],
        env: vec![b"PATH=/bin:/usr/bin".to_vec()],
    };
    let mut running = match launch(&launch_spec) {
        Ok(running) => running,
        Err(e) => panic!("{e:?}"),
    };
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = running.output.read(&mut buffer) {
        output.extend_from_slice(&buffer[..n]);
    }
    let status = running.wait();
    Some((String::from_utf8_lossy(&output).into_owned(), status))
}

#[test]
fn sees_inputs_only_and_cannot_change_them() {
    let script = "cat /nix/store/input/file; echo; pwd; id -u; id -g; ls /nix/store; ls /;
        echo x > /nix/store/input/file || echo refused;
        chmod u+w /nix/store/input 2>/dev/null || echo refused;
        echo made > /nix/store/output && cat /nix/store/output; echo $$; hostname";
    let Some((output, status)) = run(script, false) else {
        return;
    };
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    let lines: Vec<&str> = output.lines().filter(|l| !l.contains("sh: ")).collect();
    assert_eq!(lines[0..5], ["contents", "/build", "1000", "100", "input"]);
    assert!(
        output.ends_with("refused\nrefused\nmade\n1\nlocalhost\n"),
        "{output}"
    );
    assert!(!output.contains("root\nhome"), "{output}");
}

#[test]
fn setid_bits_are_refused() {
    let script = "touch f; chmod 4755 f 2>/dev/null && echo set; chmod 755 f && echo plain";
    let Some((output, _)) = run(script, false) else {
        return;
    };
    assert_eq!(output, "plain\n");
}

#[test]
fn setid_bits_are_refused_when_files_are_made() {
    if !Path::new("/usr/bin/perl").exists() {
        eprintln!("skipped: no perl");
        return;
    }
    let script = "perl -e 'use Fcntl; umask 0;
        sysopen(F, \"new\", O_CREAT | O_WRONLY, 04755) and print \"made\\n\";
        sysopen(F, \"other\", O_CREAT | O_WRONLY, 0755) and print \"plain\\n\";
        sysopen(F, \"other\", O_RDONLY, 06755) and print \"opened\\n\";'";
    let Some((output, _)) = run(script, false) else {
        return;
    };
    assert_eq!(output, "plain\nopened\n");
}

/// Builders that reach the network share its names of sockets with the machine, and could be handed open files there.
#[test]
fn sockets_without_files_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    if !Path::new("/usr/bin/perl").exists() || child::socket_scope().is_none() {
        eprintln!("skipped: no perl, or a kernel that cannot keep them apart");
        return;
    }
    let name = format!("nivis-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let script = format!(
        "perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);
            print connect(S, pack_sockaddr_un(\"\\0{name}\")) ? \"reached\" : \"refused\"'"
    );
    let Some((output, _)) = run(&script, true) else {
        return;
    };
    assert_eq!(output, "refused");
}

/// Tickets and passwords that the kernel keeps for the caller. What cannot be asked for cannot be had.
#[test]
fn the_callers_keys_are_not_the_builders() {
    if !Path::new("/usr/bin/perl").exists() || cfg!(not(target_arch = "x86_64")) {
        eprintln!("skipped: no perl that knows the numbers of calls");
        return;
    }
    // The number of the session's keyring.
    let script = "perl -e 'my $ring = syscall(250, 0, -3, 0); print $ring < 0 ? \"none\" : $ring'";
    let Some((output, _)) = run(script, false) else {
        return;
    };
    assert_eq!(output, "none");
}

#[test]
fn processes_that_fork_away_die() {
    let script = "(setsid sleep 1000 &) ; (setsid sleep 1000 >/dev/null 2>&1 &); echo done";
    let start = std::time::Instant::now();
    let Some((output, status)) = run(script, false) else {
        return;
    };
    assert_eq!((output.as_str(), status), ("done\n", ExitStatus::Code(0)));
    assert!(start.elapsed().as_secs() < 100);
}

#[test]
fn network_is_loopback_only() {
    let script = "grep -v lo: /proc/net/dev | tail -n +3 | wc -l";
    let Some((output, _)) = run(script, false) else {
        return;
    };
    assert_eq!(output.trim(), "0");
}

#[test]
fn exit_statuses() {
    let Some((_, status)) = run("exit 3", true) else {
        return;
    };
    assert_eq!(status.describe(), "failed with exit code 3");
    let Some((_, status)) = run("kill -KILL $$; sh -c 'kill -SEGV $$'; exit 5", false) else {
        return;
    };
    // The first process of a namespace cannot kill itself.
    assert_eq!(status, ExitStatus::Code(5));
}

/// What a sandbox costs: `cargo test --release -p nivis-store sandbox -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement"]
fn cost() {
    if sh().is_none() {
        return;
    }
    for (what, megabytes) in [("small process", 0), ("1 GiB in use", 1024)] {
        let ballast = vec![1u8; megabytes << 20];
        let start = std::time::Instant::now();
        const ROUNDS: u32 = 200;
        for _ in 0..ROUNDS {
            run("exit 0", false);
        }
        eprintln!("{what}: {:?} a sandbox", start.elapsed() / ROUNDS);
        drop(ballast);
    }
}
