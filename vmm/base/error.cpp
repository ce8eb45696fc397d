// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/error.hpp"

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/plain_text.hpp"

namespace inox {
namespace {

struct Row {
    Errc code;
    std::string_view name;
    int exit;
};

constexpr std::array<Row, errc_count> table{{
    {Errc::kernel_missing, "kernel_missing", 100},
    {Errc::kernel_invalid, "kernel_invalid", 101},
    {Errc::kernel_does_not_fit, "kernel_does_not_fit", 102},
    {Errc::initrd_missing, "initrd_missing", 103},
    {Errc::initrd_does_not_fit, "initrd_does_not_fit", 104},
    {Errc::disk_missing, "disk_missing", 97},
    {Errc::disk_invalid, "disk_invalid", 98},
    {Errc::root_missing, "root_missing", 87},
    {Errc::root_invalid, "root_invalid", 88},
    {Errc::modules_missing, "modules_missing", 89},
    {Errc::memory_invalid, "memory_invalid", 105},
    {Errc::memory_unavailable, "memory_unavailable", 106},
    {Errc::cpus_invalid, "cpus_invalid", 107},
    {Errc::cmdline_too_long, "cmdline_too_long", 108},
    {Errc::config_unreadable, "config_unreadable", 109},
    {Errc::config_syntax, "config_syntax", 110},
    {Errc::config_type, "config_type", 111},
    {Errc::config_unknown_key, "config_unknown_key", 112},
    {Errc::config_missing_key, "config_missing_key", 113},
    {Errc::config_value, "config_value", 114},
    {Errc::unsupported, "unsupported", 125},
    {Errc::kvm_missing, "kvm_missing", 115},
    {Errc::kvm_denied, "kvm_denied", 116},
    {Errc::kvm_unusable, "kvm_unusable", 117},
    {Errc::vfio_missing, "vfio_missing", 90},
    {Errc::vfio_denied, "vfio_denied", 91},
    {Errc::vfio_driver, "vfio_driver", 92},
    {Errc::vfio_group, "vfio_group", 93},
    {Errc::iommu_missing, "iommu_missing", 94},
    {Errc::iommu_unsafe, "iommu_unsafe", 95},
    {Errc::reserved_conflict, "reserved_conflict", 96},
    {Errc::host_error, "host_error", 118},
    {Errc::output_unwritable, "output_unwritable", 119},
    {Errc::bad_option, "bad_option", 153},
    {Errc::wrong_state, "wrong_state", 120},
    {Errc::not_found, "not_found", 121},
    {Errc::already_exists, "already_exists", 122},
    {Errc::no_resource, "no_resource", 123},
    {Errc::in_use, "in_use", 99},
    {Errc::not_allowed, "not_allowed", 86},
    {Errc::page_server, "page_server", 81},
    {Errc::snapshot_missing, "snapshot_missing", 82},
    {Errc::snapshot_invalid, "snapshot_invalid", 83},
    {Errc::snapshot_mismatch, "snapshot_mismatch", 84},
    {Errc::unsaveable, "unsaveable", 85},
    {Errc::guest_triple_fault, "guest_triple_fault", 131},
    {Errc::guest_halted, "guest_halted", 132},
    {Errc::guest_emulation_failure, "guest_emulation_failure", 133},
    {Errc::guest_entry_failed, "guest_entry_failed", 134},
    {Errc::guest_panic, "guest_panic", 135},
    {Errc::guest_hard_lockup, "guest_hard_lockup", 148},
    {Errc::guest_silent, "guest_silent", 146},
    {Errc::guest_findings, "guest_findings", 145},
    {Errc::guest_root, "guest_root", 147},
    {Errc::guest_rebooted, "guest_rebooted", 144},
    {Errc::expect_not_seen, "expect_not_seen", 136},
    {Errc::timed_out, "timed_out", 124},
    {Errc::interrupted, "interrupted", 130},
    {Errc::terminated, "terminated", 143},
    {Errc::internal, "internal", 1},
}};

constexpr bool in_order() {
    for (std::size_t i = 0; i < table.size(); ++i)
        if (static_cast<std::size_t>(table[i].code) != i)
            return false;
    return true;
}
static_assert(in_order(), "one row per Errc, in the order of the enum");

} // namespace

std::string_view error_name(Errc code) { return table.at(static_cast<std::size_t>(code)).name; }
int exit_code(Errc code) { return table.at(static_cast<std::size_t>(code)).exit; }

std::string Error::message() const {
    switch (sys_errno) {
    case outside::refused:
        return what + ": inox is confined to what its configuration names";
    case outside::gone:
        return what + ": the process that opens files for inox has ended";
    case outside::unanswered:
        return what + ": the process that opens files for inox does not answer";
    default:
        break;
    }
    return sys_errno == 0 ? what : format("%s: %s (errno %d)", what.c_str(), std::strerror(sys_errno), sys_errno);
}

/// Paths and expressions may hold anything: a terminal must not act on it.
std::string Error::report() const {
    std::string out = "inox: error: ";
    if (!where.empty())
        out.append(where).append(": ");
    out.append(message()).append(" [").append(error_name(code)).append("]");
    make_plain(out);
    out += '\n';
    if (!hint.empty()) {
        std::string line = "  hint: " + hint;
        make_plain(line);
        out.append(line).append("\n");
    }
    return out;
}

std::unexpected<Error> fail_errno(Errc code, std::string what, std::string hint) {
    const int saved = errno;
    switch (saved) {
    case outside::refused:
        return std::unexpected<Error>{Error{Errc::not_allowed, std::move(what), open_hint(saved), {}, saved}};
    case outside::gone:
        return std::unexpected<Error>{Error{Errc::host_error, std::move(what), open_hint(saved), {}, saved}};
    case outside::unanswered:
        return std::unexpected<Error>{Error{Errc::timed_out, std::move(what), open_hint(saved), {}, saved}};
    default:
        break;
    }
    return std::unexpected<Error>{Error{code, std::move(what), std::move(hint), {}, saved}};
}

std::string format(const char* text, ...) {
    va_list args;
    va_start(args, text);
    va_list again;
    va_copy(again, args);
    const int length = std::vsnprintf(nullptr, 0, text, args);
    va_end(args);
    std::string out(length > 0 ? static_cast<std::size_t>(length) : 0, '\0');
    if (length > 0)
        std::vsnprintf(out.data(), out.size() + 1, text, again);
    va_end(again);
    return out;
}

} // namespace inox
