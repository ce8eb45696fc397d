// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/log.hpp"
#include "vmm/base/os.hpp"

namespace inox::tests {

/// Log lines of a scope.
class LogCapture {
public:
    LogCapture() { log::set_sink(fd_.get()); }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;
    ~LogCapture() { log::set_sink(STDERR_FILENO); }
    [[nodiscard]] std::string text() const;

private:
    UniqueFd fd_{::memfd_create("log", MFD_CLOEXEC)};
};

} // namespace inox::tests
