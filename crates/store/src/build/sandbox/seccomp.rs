//! The filter of system calls that builders run under.
//!
//! It does not isolate (namespaces do); it keeps builders from making what a store cannot hold: files with the
//! set-user-id or set-group-id bit, extended attributes and access control lists. Everything else is allowed.
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
    /// Calls about extended attributes.
    xattrs: &'static [c_long],
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
        ],
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
        modes: &[(15, 1), (94, 1), (306, 2), (FCHMODAT2, 2)],
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
        ],
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
        modes: &[(15, 1), (94, 1), (333, 2), (FCHMODAT2, 2)],
        xattrs: &[226, 227, 228, 229, 230, 231, SETXATTRAT, GETXATTRAT],
    },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CALLS: &[Calls] = &[];

// The same everywhere, since they are newer than the common numbering.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;

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
pub(super) fn filter() -> Vec<sock_filter> {
    let mut program = Vec::new();
    for calls in CALLS {
        let mut body = vec![statement(LOAD, NUMBER)];
        if calls.ignore != 0 {
            body.push(statement(AND, !calls.ignore));
        }
        for &number in calls.xattrs {
            body.push(unless(IF_EQUAL, number as u32, 1));
            body.push(statement(RETURN, errno(libc::ENOTSUP)));
        }
        for &(number, argument) in calls.modes {
            body.push(unless(IF_EQUAL, number as u32, 4));
            body.push(statement(LOAD, ARGUMENTS + 8 * argument + LOW_HALF));
            body.push(unless(IF_ANY_BIT, SETID, 1));
            body.push(statement(RETURN, errno(libc::EPERM)));
            body.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
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
    fn refuses_setid_and_xattrs_only() {
        let program = filter();
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
