"""Zones that ask for two people, and what the first of them said at a gate."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('zone', sa.Column('approvers', sa.Integer(), server_default='1', nullable=False))
    op.add_column('gate', sa.Column('approvals', sa.JSON(), nullable=True))
