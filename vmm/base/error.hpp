// SPDX-License-Identifier: Apache-2.0
// Operator and host errors. Guest errors never use these: they become a status inside the device.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "vmm/base/error_detail.hpp"

namespace inox {

/// Stable error codes. Each has a name (error_name) and a process exit code (exit_code); both are contract, see
/// docs/exit-codes.md. Add at the end of a group; never renumber.
enum class Errc : std::uint8_t {
    kernel_missing,      ///< kernel file cannot be opened or read
    kernel_invalid,      ///< truncated, corrupt or of an unsupported kind
    kernel_does_not_fit, ///< segments outside guest RAM, overlapping each other or the boot structures
    initrd_missing,
    initrd_does_not_fit,
    disk_missing,       ///< a disk image cannot be opened as asked for
    disk_invalid,       ///< not a regular file or block device, or of another format than raw
    root_missing,       ///< the guest's root cannot be opened
    root_invalid,       ///< neither a folder nor an image nor an archive that inox can use
    modules_missing,    ///< the kernel's modules are not there, or are another kernel's
    memory_invalid,     ///< 0, not a multiple of the page size, or beyond what the guest map can hold
    memory_unavailable, ///< the host cannot provide it
    cpus_invalid,
    cmdline_too_long,
    config_unreadable,
    config_syntax, ///< not JSON
    config_type,   ///< JSON of the wrong type
    config_unknown_key,
    config_missing_key,
    config_value, ///< right type, value refused
    unsupported,  ///< asks for a part that this version of inox does not have
    kvm_missing,
    kvm_denied,        ///< no permission on /dev/kvm
    kvm_unusable,      ///< too old, or a capability is missing
    vfio_missing,      ///< VFIO's files or modules are not there
    vfio_denied,       ///< no permission on them
    vfio_driver,       ///< a device to assign is bound to another driver than vfio-pci
    vfio_group,        ///< another device of its IOMMU group is used by the host
    iommu_missing,     ///< no IOMMU stands between a device and memory
    iommu_unsafe,      ///< the IOMMU does not isolate interrupts
    reserved_conflict, ///< guest RAM lies where a device may not do DMA
    host_error,        ///< a system call failed; sys_errno says how
    output_unwritable, ///< serial log, timeline or another output file
    bad_option,        ///< command line
    wrong_state,       ///< not now: before or after the start of the guest
    not_found,
    already_exists,
    no_resource,       ///< a limit of inox or of the host is reached
    in_use,            ///< another process, or another device of this machine, holds it
    not_allowed,       ///< inox is confined, and neither its configuration nor --allow names the file
    page_server,       ///< the process that brings a restored guest's memory is not there, or has ended
    snapshot_missing,  ///< a snapshot's file cannot be opened or read
    snapshot_invalid,  ///< damaged, truncated, of another program or of a newer version
    snapshot_mismatch, ///< sound, but this host, or what it is restored with, differs from what it was saved with
    unsaveable,        ///< the machine has a part whose state cannot be saved
    guest_triple_fault,
    guest_halted, ///< no vCPU can ever run again
    guest_emulation_failure,
    guest_entry_failed,
    guest_panic,
    guest_hard_lockup, ///< one of its CPUs takes no interrupt any more
    guest_silent,      ///< its console said nothing for as long as --quiet-for allows
    guest_findings,    ///< its console shows what --fail-on looks for
    guest_root,        ///< what inox's init found: the root cannot be mounted
    guest_rebooted,    ///< where a reboot is asked to be a failure
    expect_not_seen,
    timed_out,
    interrupted, ///< SIGINT
    terminated,  ///< SIGTERM, SIGHUP, SIGQUIT
    internal,    ///< a bug in inox
};
inline constexpr std::size_t errc_count = static_cast<std::size_t>(Errc::internal) + 1;

/// The code as users and programs see it, such as "kernel_missing".
std::string_view error_name(Errc code);
/// Process exit code for a run that ends with this error.
int exit_code(Errc code);

struct Error {
    Errc code{Errc::internal};
    std::string what{};  ///< what failed, naming the object: one line, no full stop
    std::string hint{};  ///< what to do next; may be empty
    std::string where{}; ///< JSON pointer or command-line option of the value at fault, or empty
    int sys_errno{};     ///< 0 when no system call failed
    ErrorDetail detail{};

    /// The detail of this kind, or null.
    template <class T> [[nodiscard]] const T* as() const { return std::get_if<T>(&detail); }
    /// "what (errno text)", without the hint.
    [[nodiscard]] std::string message() const;
    /// As every part of inox prints an error: "inox: error: WHERE: WHAT [code]" and, if there is one, "  hint: HINT";
    /// each line ends with a newline.
    [[nodiscard]] std::string report() const;
};

template <class T> class [[nodiscard]] Result : public std::expected<T, Error> {
public:
    using std::expected<T, Error>::expected;
};

inline Error make_error(Errc code, std::string what, std::string hint = {}, ErrorDetail detail = {}) {
    return {code, std::move(what), std::move(hint), {}, 0, std::move(detail)};
}
/// The same about the value at `where`.
inline Error error_at(std::string where, Errc code, std::string what, std::string hint = {}, ErrorDetail detail = {}) {
    return {code, std::move(what), std::move(hint), std::move(where), 0, std::move(detail)};
}
inline std::unexpected<Error> fail(Errc code, std::string what, std::string hint = {}, ErrorDetail detail = {}) {
    return std::unexpected{make_error(code, std::move(what), std::move(hint), std::move(detail))};
}
inline std::unexpected<Error> fail_at(std::string where, Errc code, std::string what, std::string hint = {},
                                      ErrorDetail detail = {}) {
    return std::unexpected{error_at(std::move(where), code, std::move(what), std::move(hint), std::move(detail))};
}
/// A failed system call: keeps the current errno. Where that is one of vmm/base/outside, its code instead of `code`.
std::unexpected<Error> fail_errno(Errc code, std::string what, std::string hint = {});

/// printf into a std::string, checked by the compiler.
[[gnu::format(printf, 1, 2)]] std::string format(const char* text, ...);

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): an early return needs a macro
#define TRY(expr)                                                                                                      \
    __extension__({                                                                                                    \
        auto&& try_result_ = (expr);                                                                                   \
        if (!try_result_) [[unlikely]]                                                                                 \
            return std::unexpected(std::move(try_result_).error());                                                    \
        *std::move(try_result_);                                                                                       \
    })
/// For Result<void>.
#define TRY_VOID(expr)                                                                                                 \
    do {                                                                                                               \
        if (auto try_result_ = (expr); !try_result_) [[unlikely]]                                                      \
            return std::unexpected(std::move(try_result_).error());                                                    \
    } while (false)

} // namespace inox
