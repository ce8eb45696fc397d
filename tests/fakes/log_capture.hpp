// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/log.hpp"
#include "vmm/base/os.hpp"

namespace inox::fakes {

/// Log lines of a scope.
class LogCapture {
public:
    LogCapture() { log::set_sink(fd_.get()); }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;
    ~LogCapture() { log::set_sink(STDERR_FILENO); }
    [[nodiscard]] std::string text() const {
        std::string out(64 * 1024, '\0');
        const auto got = ::pread(fd_.get(), out.data(), out.size(), 0);
        out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return out;
    }

private:
    UniqueFd fd_{::memfd_create("log", MFD_CLOEXEC)};
};

} // namespace inox::fakes
