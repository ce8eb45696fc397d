// SPDX-License-Identifier: Apache-2.0
// The control API of a template.
#pragma once

#include "api/server.hpp"
#include "vmm/template/template.hpp"

namespace inox::clones {

/// Listens on the loop's thread until this dies; both outlive it.
class Service {
public:
    static Result<std::unique_ptr<Service>> create(const api::ServerOptions& options, EventLoop& loop, Template& made,
                                                   std::string id);
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;
    ~Service();

private:
    struct Batch;
    Service(Template& made, std::string id) : template_{made}, id_{std::move(id)} {}
    void handle(api::Request request, const std::shared_ptr<api::Exchange>& exchange);
    void spawn(const api::Request& request, const std::shared_ptr<api::Exchange>& exchange);
    void next(const std::shared_ptr<Batch>& batch);
    [[nodiscard]] api::Response status() const;
    [[nodiscard]] api::Response list(const std::string& query) const;

    Template& template_;
    std::string id_;
    std::chrono::steady_clock::time_point began_{std::chrono::steady_clock::now()};
    std::unique_ptr<api::Server> server_{};
};

} // namespace inox::clones
