// SPDX-License-Identifier: Apache-2.0
// A host tap interface as a network device's port.
#pragma once

#include <memory>
#include <vector>

#include "devices/virtio/net/port.hpp"

namespace inox::devices::virtio {

class Tap final : public NetPort {
public:
    /// Refuses what cannot be the name of an interface. Touches nothing yet.
    static Result<std::unique_ptr<Tap>> create(std::string name);

    [[nodiscard]] const std::string& name() const override { return title_; }
    /// Whether open() would work. A tap that is there is opened and let go; none is made.
    Result<void> check(unsigned pairs);
    /// Attaches to the tap; makes one that lives as long as it is open when there is none and we may. A tap that was
    /// there once and has gone is not made anew.
    Result<void> open(unsigned pairs) override;
    void close() noexcept override;
    [[nodiscard]] int fd(unsigned pair) const override { return pair < queues_.size() ? queues_[pair].get() : -1; }
    [[nodiscard]] std::uint64_t capabilities() const override { return capabilities_; }
    void set_offloads(std::uint64_t offloads) noexcept override;
    void set_active_pairs(unsigned pairs) noexcept override;
    [[nodiscard]] std::uint16_t mtu() const override;

private:
    explicit Tap(std::string name) : name_{std::move(name)}, title_{"tap '" + name_ + "'"} {}
    Result<UniqueFd> open_queue(bool several) const;
    /// The kernel's answer to a request for the name with these flags (IFF_); Errc::internal for what explain() tells.
    Result<UniqueFd> ask(int flags) const;
    Result<void> set_up(int fd);
    [[nodiscard]] std::unexpected<Error> explain(int error, bool existed, bool several) const;
    void bring_up() const noexcept;

    std::string name_;
    std::string title_;
    std::vector<UniqueFd> queues_{};
    unsigned active_{0};
    std::uint64_t capabilities_{0};
    bool found_{false}; ///< it was there before us
};

} // namespace inox::devices::virtio
