// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace inox {

/// A number, or an address of any kind, as %llx of printf takes it.
template <class T> constexpr unsigned long long hex(T value) noexcept {
    if constexpr (requires { value.raw(); })
        return value.raw();
    else
        return value;
}

} // namespace inox
