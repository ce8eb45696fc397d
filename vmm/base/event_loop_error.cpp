// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/event_loop_error.hpp"

#include <boost/system/system_error.hpp>

namespace inox {

int loop_errno(const std::exception& thrown) {
    const auto* error = dynamic_cast<const boost::system::system_error*>(&thrown);
    return error != nullptr ? error->code().value() : 0;
}

} // namespace inox
