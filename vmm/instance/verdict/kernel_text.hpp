// SPDX-License-Identifier: Apache-2.0
// What Linux prints when something is wrong with it: the texts of its own reports, by kind. For Linux 6.1 to 7.x; older
// kernels have most of them.
#pragma once

#include <optional>
#include <string_view>

namespace inox {

/// A line of a kernel's log without level, time stamp and caller ("<4>[    1.234567][    T1] text").
struct KernelLine {
    std::string_view text{};
    /// It had a time stamp, as a kernel's own lines have where printk.time is on; or it is inox's init that tells.
    bool stamped{false};
};
KernelLine kernel_line(std::string_view line);

/// The kind of report that this text begins, such as "oops"; nullopt: none. Only a report's first line counts, so that
/// a report is one finding.
std::optional<std::string_view> kernel_report(std::string_view text);

} // namespace inox
