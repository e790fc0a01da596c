//! The filter of system calls that builders run under.
//!
//! It does not isolate (namespaces do, but for what they know nothing of: the keys that the kernel keeps for the caller). It
//! keeps builders from making what a store cannot hold: files with the set-user-id or set-group-id bit, extended attributes
//! and access control lists. Everything else is allowed.
//!
//! Written as a classic BPF program by hand because builders may run programs of the machine's other
//! calling conventions (32-bit x86 on x86-64, say), which a filter for one architecture would kill.

use libc::{c_long, sock_filter};

/// What the kernel does instead of a call.
const fn errno(code: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (code as u32 & libc::SECCOMP_RET_DATA)
}

/// Set-user-id and set-group-id.
const SETID: u32 = 0o6000;

/// The numbers of one calling convention.
struct Calls {
    /// `AUDIT_ARCH_*`
    arch: u32,
    /// Bits of a number that do not tell calls apart (the mark of x32).
    ignore: u32,
    /// Calls that set a mode, with the index of the argument that holds it.
    modes: &'static [(c_long, u32)],
    /// Calls that may make a file, with the index of the argument with their flags; the mode follows.
    opens: &'static [(c_long, u32)],
    /// Calls about extended attributes.
    xattrs: &'static [c_long],
    /// Calls about the kernel's keys.
    keys: &'static [c_long],
}

#[cfg(target_arch = "x86_64")]
const CALLS: &[Calls] = &[
    Calls {
        arch: 0xc000_003e,
        ignore: 0x4000_0000,
        modes: &[
            (libc::SYS_chmod, 1),
            (libc::SYS_fchmod, 1),
            (libc::SYS_fchmodat, 2),
            (FCHMODAT2, 2),
            (libc::SYS_creat, 1),
            (libc::SYS_mknod, 1),
            (libc::SYS_mknodat, 2),
        ],
        opens: &[(libc::SYS_open, 1), (libc::SYS_openat, 2)],
        keys: &[libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl],
        xattrs: &[
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            SETXATTRAT,
            GETXATTRAT,
        ],
    },
    // 32-bit x86, by its own numbers.
    Calls {
        arch: 0x4000_0003,
        ignore: 0,
        modes: &[
            (15, 1),
            (94, 1),
            (306, 2),
            (FCHMODAT2, 2),
            (8, 1),
            (14, 1),
            (297, 2),
        ],
        opens: &[(5, 1), (295, 2)],
        keys: &[286, 287, 288],
        xattrs: &[226, 227, 228, 229, 230, 231, SETXATTRAT, GETXATTRAT],
    },
];

#[cfg(target_arch = "aarch64")]
const CALLS: &[Calls] = &[
    Calls {
        arch: 0xc000_00b7,
        ignore: 0,
        modes: &[
            (libc::SYS_fchmod, 1),
            (libc::SYS_fchmodat, 2),
            (FCHMODAT2, 2),
            (libc::SYS_mknodat, 2),
        ],
        opens: &[(libc::SYS_openat, 2)],
        keys: &[libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl],
        xattrs: &[
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            SETXATTRAT,
            GETXATTRAT,
        ],
    },
    // 32-bit ARM, by its own numbers.
    Calls {
        arch: 0x4000_0028,
        ignore: 0,
        modes: &[
            (15, 1),
            (94, 1),
            (333, 2),
            (FCHMODAT2, 2),
            (8, 1),
            (14, 1),
            (324, 2),
        ],
        opens: &[(5, 1), (322, 2)],
        keys: &[309, 310, 311],
        xattrs: &[226, 227, 228, 229, 230, 231, SETXATTRAT, GETXATTRAT],
    },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CALLS: &[Calls] = &[];

// The same everywhere, since they are newer than the common numbering.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const OPENAT2: c_long = 437;
const IO_URING_SETUP: c_long = 425;

/// Flags with which opening a file may make one.
const MAKES_FILE: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The half of a 64-bit argument that holds its low bits.
const LOW_HALF: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `skip` statements unless the condition holds.
fn unless(code: u16, k: u32, skip: u8) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: skip,
        k,
    }
}

/// The filter, ready for `SECCOMP_SET_MODE_FILTER`. On architectures that are not known here it lets
/// everything pass; the files' modes and attributes are then removed only when outputs are registered.
pub(super) fn filter(isolated: bool) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for calls in CALLS {
        let mut body = vec![statement(LOAD, NUMBER)];
        if calls.ignore != 0 {
            body.push(statement(AND, !calls.ignore));
        }
        let keys = if isolated { calls.keys } else { &[] };
        let refused = calls.xattrs.iter().map(|call| (*call, libc::ENOTSUP));
        // As if the kernel did not have them, which programs are prepared for. The last two could make files with a
        // mode that no filter can see.
        let missing = keys.iter().chain(&[OPENAT2]);
        let missing = missing.map(|call| (*call, libc::ENOSYS));
        for (number, code) in refused
            .chain(missing)
            .chain([(IO_URING_SETUP, libc::EPERM)])
        {
            body.push(unless(IF_EQUAL, number as u32, 1));
            body.push(statement(RETURN, errno(code)));
        }
        for &(number, flags) in calls.opens {
            body.push(unless(IF_EQUAL, number as u32, 7));
            body.push(statement(LOAD, low_half(flags)));
            body.push(unless(IF_ANY_BIT, MAKES_FILE, 4));
            refuse_setid(flags + 1, &mut body);
            body.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
        }
        for &(number, mode) in calls.modes {
            body.push(unless(IF_EQUAL, number as u32, 4));
            refuse_setid(mode, &mut body);
        }
        body.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
        // A body is a few dozen statements, well below what a jump can skip.
        debug_assert!(body.len() < 256);
        program.push(statement(LOAD, ARCH));
        program.push(unless(IF_EQUAL, calls.arch, body.len() as u8));
        program.append(&mut body);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// Where the low bits of an argument are.
fn low_half(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument + LOW_HALF
}

/// Ends the filter, by what a mode is: four statements.
fn refuse_setid(argument: u32, body: &mut Vec<sock_filter>) {
    body.push(statement(LOAD, low_half(argument)));
    body.push(unless(IF_ANY_BIT, SETID, 1));
    body.push(statement(RETURN, errno(libc::EPERM)));
    body.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let mut data = [0u32; 16];
        data[0] = number;
        data[1] = arch;
        for (i, argument) in arguments.into_iter().enumerate() {
            data[4 + 2 * i + (LOW_HALF / 4) as usize] = argument;
        }
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => accumulator = data[(step.k / 4) as usize],
                AND => accumulator &= step.k,
                RETURN => return step.k,
                code => {
                    let holds = match code {
                        IF_EQUAL => accumulator == step.k,
                        IF_ANY_BIT => accumulator & step.k != 0,
                        _ => panic!("unknown code {code}"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
            }
        }
    }

    #[test]
    fn refuses_what_it_says_only() {
        let program = filter(true);
        for calls in CALLS {
            for &(number, argument) in calls.modes {
                let try_mode = |mode| {
                    let mut arguments = [0; 6];
                    arguments[argument as usize] = mode;
                    run(&program, calls.arch, number as u32, arguments)
                };
                assert_eq!(try_mode(0o4755), errno(libc::EPERM));
                assert_eq!(try_mode(0o2755), errno(libc::EPERM));
                assert_eq!(try_mode(0o6000), errno(libc::EPERM));
                assert_eq!(try_mode(0o1777), libc::SECCOMP_RET_ALLOW);
            }
            for &(number, flags) in calls.opens {
                let open = |how: i32, mode| {
                    let mut arguments = [0; 6];
                    arguments[flags as usize] = how as u32;
                    arguments[flags as usize + 1] = mode;
                    run(&program, calls.arch, number as u32, arguments)
                };
                for how in [
                    libc::O_CREAT | libc::O_WRONLY,
                    libc::O_TMPFILE | libc::O_RDWR,
                ] {
                    assert_eq!(open(how, 0o4755), errno(libc::EPERM));
                    assert_eq!(open(how, 0o755), libc::SECCOMP_RET_ALLOW);
                }
                for how in [libc::O_RDONLY, libc::O_DIRECTORY | libc::O_CLOEXEC] {
                    assert_eq!(open(how, 0o6755), libc::SECCOMP_RET_ALLOW);
                }
            }
            for &number in calls.keys {
                let number = number as u32;
                let refused = run(&program, calls.arch, number, [0; 6]);
                assert_eq!(refused, errno(libc::ENOSYS));
                let allowed = run(&filter(false), calls.arch, number, [0; 6]);
                assert_eq!(allowed, libc::SECCOMP_RET_ALLOW);
            }
            for &number in calls.xattrs {
                assert_eq!(
                    run(&program, calls.arch, number as u32, [0; 6]),
                    errno(libc::ENOTSUP)
                );
            }
            assert_eq!(
                run(&program, calls.arch, 1, [0o4755; 6]),
                libc::SECCOMP_RET_ALLOW
            );
        }
        assert_eq!(run(&program, 0, 90, [0o4755; 6]), libc::SECCOMP_RET_ALLOW);
    }
}
