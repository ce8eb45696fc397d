// SPDX-License-Identifier: Apache-2.0
#include "tests/support/log_capture.hpp"

namespace inox::tests {

std::string LogCapture::text() const {
    std::string out(64 * 1024, '\0');
    const auto got = ::pread(fd_.get(), out.data(), out.size(), 0);
    out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return out;
}

} // namespace inox::tests
