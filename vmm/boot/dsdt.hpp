// SPDX-License-Identifier: Apache-2.0
// The definition block of the machine: what is neither enumerable nor in another ACPI table.
#pragma once

#include "vmm/boot/acpi.hpp"
#include "vmm/boot/aml.hpp"

namespace inox::boot {

/// The AML of the DSDT, without the table header.
aml::Bytes dsdt_body(const AcpiConfig& config);

} // namespace inox::boot
