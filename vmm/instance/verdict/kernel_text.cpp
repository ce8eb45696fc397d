// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/kernel_text.hpp"

#include <algorithm>

namespace inox {
namespace {

/// What inox's own init prints at the end where the kernel found something wrong (vmm/guest_root/init/report.c): its
/// level may keep a WARN from the console.
constexpr std::string_view init_report = "inox: kernel: ";

/// A text begins a report of this kind when it has `start` at its start and, behind it, `then`.
struct Row {
    std::string_view kind;
    std::string_view start;
    std::string_view then{};
};

// The first row that fits counts.
constexpr Row rows[] = {
    {"tainted", init_report, " tainted "},
    {"panic", "Kernel panic - not syncing: "},
    {"double fault", "PANIC: double fault, error_code: "},
    {"KASAN", "BUG: KASAN: "},
    {"KFENCE", "BUG: KFENCE: "},
    {"KMSAN", "BUG: KMSAN: "},
    {"KCSAN", "BUG: KCSAN: "},
    {"soft lockup", "watchdog: BUG: soft lockup - CPU#"},
    {"soft lockup", "NMI watchdog: BUG: soft lockup - CPU#"},
    {"soft lockup", "BUG: soft lockup - CPU#"},
    {"hard lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu "},
    {"hard lockup", "watchdog: Watchdog detected hard LOCKUP on cpu "},
    {"workqueue lockup", "BUG: workqueue lockup - pool"},
    {"RCU stall", "rcu: INFO: rcu_", "stall"},
    {"RCU stall", "INFO: rcu_", "stall"},
    {"RCU stall", "rcu: rcu_", " kthread starved for"},
    {"hung task", "INFO: task ", " for more than "},
    {"oops", "BUG: kernel NULL pointer dereference"},
    {"oops", "BUG: unable to handle "},
    {"oops", "Oops: ", "[#1]"},
    {"oops", "general protection fault", "[#1]"},
    {"oops", "divide error: ", "[#1]"},
    {"oops", "invalid opcode: ", "[#1]"},
    {"oops", "stack segment: ", "[#1]"},
    {"oops", "int3: ", "[#1]"},
    {"oops", "double fault: ", "[#1]"},
    {"bug", "kernel BUG at "},
    {"bug", "Kernel BUG at "},
    {"bug", "BUG "}, // of a slab: "BUG kmalloc-64 (Not tainted): ..."
    {"bug", "BUG: "},
    {"UBSAN", "UBSAN: "},
    {"lockdep", "WARNING: possible "},
    {"lockdep", "WARNING: inconsistent lock state"},
    {"lockdep", "WARNING: bad unlock balance detected!"},
    {"lockdep", "WARNING: held lock freed!"},
    {"lockdep", "WARNING: lock held when returning to user space!"},
    {"lockdep", "WARNING: suspicious RCU usage"},
    {"lockdep", "WARNING: Nested lock was not taken"},
    {"lockdep", "WARNING: ", "-unsafe lock order detected"},
    {"lockdep", "WARNING: ", " still has locks held!"},
    {"warning", "WARNING: CPU: ", " at "},
    {"warning", "WARNING: ", ".c:"},
    {"warning", "WARNING: ", ".h:"},
    {"warning", "WARNING: ", ".S:"},
    {"warning", "WARNING: ", ".rs:"},
    {"warning", "WARNING: kernel stack ", " at "},
    {"usercopy", "usercopy: Kernel memory "},
    {"refcount", "refcount_t: "},
    {"list corruption", "list_add "},
    {"list corruption", "list_del "},
    {"interrupt", "irq ", ": nobody cared"},
    {"Rust panic", "rust_kernel: panicked at "},
    {"call trace", "Call Trace:"},
};

/// "[    1.234567]" at the start of the text, or "[    T1]" where it follows: how long it is; 0: none.
std::size_t bracket(std::string_view text, std::string_view allowed) {
    if (!text.starts_with('['))
        return 0;
    const auto end = text.find(']');
    if (end == text.npos || end < 2 || end > 32)
        return 0;
    const auto inner = text.substr(1, end - 1);
    return inner.find_first_not_of(allowed) == inner.npos ? end + 1 : 0;
}

} // namespace

KernelLine kernel_line(std::string_view line) {
    if (line.size() > 2 && line[0] == '<' && line.find('>') <= 4)
        line.remove_prefix(line.find('>') + 1);
    KernelLine out{line};
    if (line.starts_with(init_report)) {
        out.stamped = true;
        return out;
    }
    // A program's unfinished line may stand before the kernel's.
    for (auto at = line.find('['); at != line.npos; at = line.find('[', at + 1))
        if (const auto size = bracket(line.substr(at), " .0123456789"); size > 2 && line.find('.', at) < at + size) {
            out = {line.substr(at + size), true};
            if (const auto caller = bracket(out.text, " TC0123456789"); caller != 0)
                out.text.remove_prefix(caller);
            break;
        }
    out.text.remove_prefix(std::min(out.text.find_first_not_of(' '), out.text.size()));
    return out;
}

std::optional<std::string_view> kernel_report(std::string_view text) {
    // Lockdep frames some of its texts: "[ BUG: ... ]".
    if (text.starts_with("[ "))
        text.remove_prefix(2);
    for (const auto& row : rows)
        if (text.starts_with(row.start) && text.substr(row.start.size()).find(row.then) != text.npos)
            return row.kind;
    return std::nullopt;
}

} // namespace inox
