// SPDX-License-Identifier: Apache-2.0
// The legacy kernel interface: a group in a container of type1 v2.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/kernel.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::vfio {

/// One group and the container it is in.
class Container final : public AddressSpace {
public:
    struct Files {
        UniqueFd container;
        UniqueFd group;
    };
    /// Puts the group into the container, unless whoever opened the files did, and makes it a type1 v2 one. `labels`
    /// are the group's reserved regions as sysfs tells them. `kvm` keeps KVM's knowledge of the group.
    static Result<std::shared_ptr<Container>> create(Kernel& kernel, DmaResources& resources, std::string name,
                                                     Files files, std::span<const ReservedLine> labels,
                                                     Registration kvm);
    [[nodiscard]] int group() const { return files_.group.get(); }

private:
    Container(Kernel& kernel, DmaResources& resources, std::string name, Files files, Registration kvm);
    Result<void> set_up();
    Result<void> read_info(std::span<const ReservedLine> labels);
    int kernel_map(std::uint64_t iova, std::uint64_t size, std::span<std::byte> host, Access access) override;
    int kernel_unmap(std::uint64_t iova, std::uint64_t size) override;
    int kernel_unmap_all() override;
    [[nodiscard]] std::optional<std::uint64_t> mapping_limit() const override { return mapping_limit_; }
    [[nodiscard]] bool maps_bars() const override { return true; }

    Kernel& kernel_;
    Files files_;      // closing the group takes it out of the container, and that drops the mappings
    Registration kvm_; // before the files go
    bool unmap_all_{};
    std::optional<std::uint64_t> mapping_limit_{};
};

} // namespace inox::devices::vfio
