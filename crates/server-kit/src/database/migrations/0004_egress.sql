-- What each subject of a policy with an EgressQuota was sent, by period.
CREATE TABLE egress (
    policy TEXT NOT NULL,
    subject TEXT NOT NULL,
    period BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (policy, subject, period)
);
CREATE INDEX egress_ends_at ON egress (ends_at);
