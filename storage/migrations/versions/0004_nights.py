"""Runs in workers' hands, and schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("key", sa.String(), nullable=True))
    op.add_column("run", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("priority", sa.Integer(), nullable=False, server_default="10"))
    op.add_column("run", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("crashes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("crashed_at", sa.String(), nullable=True))
    op.create_index(op.f("ix_run_key"), "run", ["key"], unique=True)
    op.create_index(op.f("ix_run_due_at"), "run", ["due_at"])
    op.create_table(
        "schedule",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule")),
    )
