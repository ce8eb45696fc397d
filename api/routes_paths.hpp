// SPDX-License-Identifier: Apache-2.0
// One function an operation: checks the body on the server's thread and returns the rest of the work, or a refusal.
#pragma once

#include "api/routes.hpp"

namespace inox::api {

/// The action, or Firecracker's refusal when it comes too early or too late.
Action during(Phase phase, Action action);

// firecracker/routes_machine.cpp
Prepared get_instance(Call& call);
Prepared get_version(Call& call);
Prepared get_vm_config(Call& call);
Prepared patch_vm(Call& call);
Prepared put_actions(Call& call);
Prepared get_machine_config(Call& call);
Prepared put_machine_config(Call& call);
Prepared patch_machine_config(Call& call);
Prepared put_cpu_config(Call& call);
Prepared put_boot_source(Call& call);
Prepared put_logger(Call& call);
Prepared put_metrics(Call& call);
Prepared put_serial(Call& call);

// firecracker/routes_devices.cpp
Prepared put_drive(Call& call);
Prepared patch_drive(Call& call);
Prepared delete_drive(Call& call);
Prepared put_net(Call& call);
Prepared patch_net(Call& call);
Prepared delete_net(Call& call);
Prepared put_vsock(Call& call);
Prepared put_entropy(Call& call);
Prepared put_passthrough(Call& call);
Prepared put_pmem(Call& call);
Prepared put_memory_hotplug(Call& call);

// firecracker/routes_balloon.cpp
Prepared get_balloon(Call& call);
Prepared put_balloon(Call& call);
Prepared patch_balloon(Call& call);
Prepared get_balloon_statistics(Call& call);
Prepared patch_balloon_statistics(Call& call);
Prepared get_balloon_hinting(Call& call);
Prepared start_balloon_hinting(Call& call);
Prepared stop_balloon_hinting(Call& call);

// firecracker/routes_snapshot.cpp
Prepared put_snapshot_create(Call& call);
Prepared put_snapshot_load(Call& call);
Prepared put_own_snapshot(Call& call);
Prepared delete_own_snapshot(Call& call);

// routes_move.cpp
Prepared put_move(Call& call);
Prepared delete_move(Call& call);
Prepared put_end(Call& call);

// firecracker/routes_mmds.cpp
Prepared get_mmds(Call& call);
Prepared put_mmds(Call& call);
Prepared patch_mmds(Call& call);
Prepared put_mmds_config(Call& call);

// routes_inox.cpp
Prepared get_openapi(Call& call);
Prepared get_status(Call& call);
Prepared get_exits(Call& call);
Prepared get_devices(Call& call);
Prepared get_device(Call& call);
Prepared put_device(Call& call);
Prepared delete_device(Call& call);
Prepared get_irqs(Call& call);
Prepared get_events(Call& call);
Prepared get_prometheus(Call& call);
Prepared get_iommu(Call& call);
Prepared get_pasids(Call& call);
Prepared put_dump(Call& call);
Prepared put_spawn(Call& call);
Prepared get_clones(Call& call);
Prepared put_nmi(Call& call);
Prepared put_power_button(Call& call);

} // namespace inox::api
