// SPDX-License-Identifier: Apache-2.0
// What a run can still open once its guest runs: what its configuration names, and what --allow adds.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/event_loop.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/confine/broker.hpp"
#include "vmm/instance/metrics.hpp"

namespace inox {

/// All that the configuration names. Reads sysfs for assigned devices.
std::vector<confine::Allowed> named_paths(const ConfigFile& file);
/// Whether something may be opened, connected, removed or started after the guest's first instruction.
bool opens_later(const ConfigFile& file);
/// Files and folders that stay readable without the broker: what the kernel says of itself and of devices.
std::vector<std::string> readable_paths(const ConfigFile& file);

/// Of this process, on the thread of the loop.
class Confinement {
public:
    /// Starts the broker, if the run needs one. While this process has one thread. host_error.
    static Result<std::unique_ptr<Confinement>> create(const ConfigFile& file);
    /// Of a clone: with a broker that Broker::narrow() made, which has its list already; null: nothing is opened later.
    static std::unique_ptr<Confinement> with(std::unique_ptr<confine::Broker> broker);
    ~Confinement();
    Confinement(const Confinement&) = delete;
    Confinement& operator=(const Confinement&) = delete;

    /// One more that the configuration does not name, such as the file of an id. Before enter().
    void add(std::string path) { more_.push_back(std::move(path)); }
    /// Before a machine is made: helpers are started while it is made. Nothing happens after enter(). Not on the loop:
    /// it waits for the broker.
    Result<void> allow(const ConfigFile& file);
    /// Before the guest's first instruction. From here on this process opens nothing itself, and this thread and those
    /// that it makes cannot. Once; nothing happens after that.
    Result<void> enter(const ConfigFile& file);

    /// In place of enter(), of a template: this process and those that are forked from it open what lies beneath these
    /// paths, and the broker does all else that allow() named.
    Result<void> enter_template(const ConfigFile& file, const std::vector<std::string>& writable);
    /// A broker for a clone, which opens what `file` names, and what `more` does, as far as this one may. not_allowed.
    Result<std::unique_ptr<confine::Broker>> narrow(const ConfigFile& file, const std::vector<std::string>& more);

    /// Calls `ended` on the loop, from the time on when the broker is no more until the registration dies.
    Result<Registration> watch(EventLoop& loop, std::function<void()> ended) const;
    /// What was refused, and how the broker is.
    void collect(Samples& samples) const;
    /// Nothing without a broker.
    [[nodiscard]] std::optional<confine::Broker::State> broker_state() const;

private:
    explicit Confinement(std::unique_ptr<confine::Broker> broker);

    std::unique_ptr<confine::Broker> broker_; ///< null: nothing is opened later
    std::vector<std::string> more_{};
    bool entered_{false};
    bool listed_{false}; ///< the broker has its list
};

} // namespace inox
